"""A person stops their workspace."""

from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CLIENT_LEFT, QUICK, agent_link, session


def run(stage: Stage) -> None:
    stack = stage.start(server=QUICK)
    stage.shell()
    stage.fault()
    stack.admin("workspace", "stop", "dev", "--reason", "user")


SCENARIO = Scenario(
    name="workspace-stop",
    summary="`tether workspace stop` by a person",
    run=run,
    truths=(
        session("workspace_stopped", "server", True, "workspace.stopped"),
        agent_link("workspace_stopped", "server", True, "workspace.stopped"),
        CLIENT_LEFT,
    ),
    limit_s=30,
)
