"""A workspace is stopped under a session: its user reads one sentence about it.

Truth: the workspace was stopped by somebody. Who sits at the terminal is told so once, not twice.
"""

from collections.abc import Iterable

from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CLIENT_LEFT, QUICK, agent_link, session


def run(stage: Stage) -> None:
    stack = stage.start(server=QUICK)
    stopped = stage.shell()
    stage.fault()
    stack.admin("workspace", "stop", "dev")
    stopped.ssh.exit_code(30)


def check(stage: Stage) -> Iterable[str]:
    ssh = stage.sessions[0].ssh
    said = (ssh.output().decode(errors="replace") + ssh.errors()).lower().count("was stopped")
    if said != 1:
        yield f"the user was told {said} times that the workspace was stopped:\n{ssh.tail()}"


SCENARIO = Scenario(
    name="stop-is-told-once",
    summary="a workspace is stopped, and its user's terminal says so once",
    run=run,
    truths=(
        session("workspace_stopped", "server", True, "workspace.stopped"),
        agent_link("workspace_stopped", "server", True, "workspace.stopped"),
        CLIENT_LEFT,
    ),
    limit_s=20,
    check=check,
    one_middlebox="a process ends alike behind every middlebox",
)
