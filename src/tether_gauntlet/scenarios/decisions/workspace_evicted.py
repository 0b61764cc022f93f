"""The platform takes a workspace away."""

from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CLIENT_LEFT, QUICK, agent_link, session


def run(stage: Stage) -> None:
    stack = stage.start(server=QUICK)
    stage.shell()
    stage.fault()
    stack.admin("workspace", "stop", "dev", "--reason", "evicted")


SCENARIO = Scenario(
    name="workspace-evicted",
    summary="the workspace is evicted",
    run=run,
    truths=(
        session("workspace_stopped", "server", True, "workspace.evicted"),
        agent_link("workspace_stopped", "server", True, "workspace.evicted"),
        CLIENT_LEFT,
    ),
    limit_s=30,
    one_middlebox="a decision is told alike through every middlebox",
)
