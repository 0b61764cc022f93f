"""The schedule stops a workspace; no person did."""

from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CLIENT_LEFT, QUICK, agent_link, session


def run(stage: Stage) -> None:
    stack = stage.start(server=QUICK)
    stage.shell()
    stage.fault()
    stack.admin("workspace", "stop", "dev", "--reason", "autostop")


SCENARIO = Scenario(
    name="workspace-autostop",
    summary="the workspace is stopped by its schedule",
    run=run,
    truths=(
        session("workspace_stopped", "server", True, "workspace.autostop"),
        agent_link("workspace_stopped", "server", True, "workspace.autostop"),
        CLIENT_LEFT,
    ),
    limit_s=30,
    one_middlebox="a decision is told alike through every middlebox",
)
