"""Somebody starts an agent with a user's token, and lets it run for 40 s.

Truth: nobody's connection ended. It was refused, which is told once and not once a second; and in a line
of the agent's own log, since its operator has to do something.
"""

from collections.abc import Iterable

from tether_gauntlet.lab.topology import internet
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import LINKS, QUICK

AT_MOST = 2
"""Rows that one mistake may leave within 40 s."""


def run(stage: Stage) -> None:
    stack = stage.start(server=QUICK)
    session = stage.shell()
    stack.create_workspace("wrong", host="agent2")
    stack.workspaces["wrong"].token_file.write_text(stack.admin_token)
    stage.fault()
    stack.start_agent("wrong", host="agent2", wait=False)
    stage.wait(40)
    session.echoes("still-here", 20)


def check(stage: Stage) -> Iterable[str]:
    rows = [row for row in stage.ended() if row["connect_type"] in LINKS and not row.get("excused")]
    if len(rows) > AT_MOST:
        causes = sorted({row["disconnect_cause"] for row in rows})
        yield f"one wrong token left {len(rows)} rows ({', '.join(causes)})"
    told = [line for line in stage.stack.agents["wrong"].events() if line.get("level") == "error"]
    if not told:
        yield "the agent's log has no error that says what to do"


SCENARIO = Scenario(
    name="users-token-in-an-agent",
    summary="an agent is started with a user's token",
    run=run,
    truths=(),
    limit_s=45,
    topology=internet(agents=2),
    tolerates=LINKS,
    check=check,
    one_middlebox="a decision is told alike through every middlebox",
)
