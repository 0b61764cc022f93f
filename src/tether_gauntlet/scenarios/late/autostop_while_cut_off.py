"""The schedule stops a workspace whose agent is cut off; the agent hears of it when its network is back.

Truth: the schedule ended the session and the agent's link, 3 s into the cut and before anybody had given
up. That the agent says goodbye when it hears of it, 20 s later, is what a stop looks like from there.
"""

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CLIENT_LEFT, QUICK, agent_link, session


def run(stage: Stage) -> None:
    stack = stage.start(server=QUICK)
    stage.shell()
    stage.fault()
    with faults.blackhole(stage.lab, "agent1"):
        stage.wait(3)
        stack.admin("workspace", "stop", "dev", "--reason", "autostop")
        stage.wait(23)


SCENARIO = Scenario(
    name="autostop-while-cut-off",
    summary="a workspace is stopped by its schedule while its agent is cut off for 23 s",
    run=run,
    truths=(
        session("workspace_stopped", "server", True, "workspace.autostop"),
        agent_link("workspace_stopped", "server", True, "workspace.autostop"),
        CLIENT_LEFT,
    ),
    limit_s=60,
    tricky=True,
    one_middlebox="what comes late is late behind every middlebox",
)
