"""An administrator makes a new token for a workspace, and its file is written only 20 s later, by hand.

Truth: nobody left, and nobody is to leave for that: the agent is the same, and is known to the server.
Sessions go on, at the latest with the new token.
"""

from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, S2A


def run(stage: Stage) -> None:
    stack = stage.start(server=QUICK)
    session = stage.shell()
    stage.fault()
    made = stack.admin("workspace", "token", "dev")
    stage.wait(20)
    session.echoes("meanwhile", 20)
    stack.workspaces["dev"].token_file.write_text(made.stdout)
    stage.wait(30)
    session.echoes("still-here", 30)


SCENARIO = Scenario(
    name="agent-token-rotated-late",
    summary="a workspace's token is replaced, and its agent's file 20 s later",
    run=run,
    truths=(),
    limit_s=45,
    tricky=True,
    tolerates=frozenset({S2A}),
    one_middlebox="a decision is told alike through every middlebox",
)
