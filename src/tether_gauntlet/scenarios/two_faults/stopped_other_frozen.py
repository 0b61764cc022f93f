"""One workspace is stopped by its owner as another one's agent stands still for 20 s.

Truth: the one was stopped, as asked; the other one's process did not run. That is no part of the stop.
"""

from tether_gauntlet.lab import faults
from tether_gauntlet.lab.topology import internet
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CLIENT_LEFT, QUICK, agent_link, of, session


def run(stage: Stage) -> None:
    stack = stage.start(server=QUICK)
    stage.another()
    stage.shell()
    waits = stage.shell(workspace="hers", host="client2")
    stage.fault()
    with faults.stop_process(stage.lab, stack.agents["hers"]):
        stack.admin("workspace", "stop", "dev")
        stage.wait(20)
    waits.echoes("still-here", 30)


SCENARIO = Scenario(
    name="stopped-other-frozen",
    summary="a workspace is stopped as another's agent stands still for 20 s",
    run=run,
    truths=(
        of(session("workspace_stopped", "server", True, "workspace.stopped"), workspace="dev"),
        of(agent_link("workspace_stopped", "server", True, "workspace.stopped"), workspace="dev"),
        of(CLIENT_LEFT, user="admin"),
        of(
            agent_link("peer_unresponsive", "agent", False, "agent.frozen", "agent.unresponsive"),
            workspace="hers",
        ),
    ),
    limit_s=50,
    topology=internet(clients=2, agents=2),
    tricky=True,
    one_middlebox="whose fault is whose does not depend on the kind of middlebox",
)
