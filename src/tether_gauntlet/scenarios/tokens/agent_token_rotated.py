"""An administrator makes a new token for a workspace, and writes it where the agent reads it.

Truth: nobody left, and nobody is to leave: the agent is the same, and may use the new token from now on.
Its link may be made anew for that, as planned.
"""

from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, S2A


def run(stage: Stage) -> None:
    stack = stage.start(server=QUICK)
    session = stage.shell()
    stage.fault()
    made = stack.admin("workspace", "token", "dev")
    stage.wait(1)
    stack.workspaces["dev"].token_file.write_text(made.stdout)
    stage.wait(15)
    session.echoes("still-here", 30)


SCENARIO = Scenario(
    name="agent-token-rotated",
    summary="a workspace's token is replaced, and its agent's file with it, under a session",
    run=run,
    truths=(),
    limit_s=30,
    tricky=True,
    tolerates=frozenset({S2A}),
    one_middlebox="a decision is told alike through every middlebox",
)
