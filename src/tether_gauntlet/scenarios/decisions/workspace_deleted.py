"""A workspace is deleted under its user."""

from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CLIENT_LEFT, QUICK, agent_link, session


def run(stage: Stage) -> None:
    stack = stage.start(server=QUICK)
    stage.shell()
    stage.fault()
    stack.admin("workspace", "delete", "dev", "--yes")


SCENARIO = Scenario(
    name="workspace-deleted",
    summary="the workspace is deleted",
    run=run,
    truths=(
        session("workspace_stopped", "server", True, "workspace.deleted"),
        agent_link("workspace_stopped", "server", True, "workspace.deleted"),
        CLIENT_LEFT,
    ),
    limit_s=30,
    one_middlebox="a decision is told alike through every middlebox",
)
