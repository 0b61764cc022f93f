"""One workspace's agent is killed; another's network is cut in the same second, on the same router.

Truth: the killed one crashed and came back; the other one's network failed. They share a router, and
nothing else: neither explains the other.
"""

import signal

from tether_gauntlet.lab import faults
from tether_gauntlet.lab.topology import internet
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import AGENT_DARK, CLIENT_LEFT, QUICK, agent_link, of, session


def run(stage: Stage) -> None:
    stack = stage.start(server=(*QUICK, "--resume-s", "8"))
    stage.another()
    stage.shell()
    cut = stage.shell(workspace="hers", host="client2")
    stage.fault()
    with faults.blackhole(stage.lab, "agent2"):
        stage.agent.send_signal(signal.SIGKILL)
        stage.agent.exit_code()
        cut.type("echo anybody there")
        stack.start_agent()
        stage.wait(40)


SCENARIO = Scenario(
    name="agent-killed-other-dark",
    summary="an agent is killed as another's network is cut for 40 s",
    run=run,
    truths=(
        of(
            session("process_crashed", "agent", False, "agent.killed", "agent.crashed"),
            workspace="dev",
        ),
        of(
            agent_link("process_crashed", "agent", False, "agent.killed", "agent.crashed"),
            workspace="dev",
        ),
        of(CLIENT_LEFT, user="admin"),
        of(session("network_error", "network", False, *AGENT_DARK), workspace="hers"),
        of(agent_link("network_error", "network", False, *AGENT_DARK), workspace="hers"),
        of(CLIENT_LEFT, user="alice"),
    ),
    limit_s=70,
    topology=internet(clients=2, agents=2),
    tricky=True,
    one_middlebox="whose fault is whose does not depend on the kind of middlebox",
)
