"""Somebody logs in with a relay's token and tries to reach a workspace, three times.

Truth: nobody's connection ended. The command says what is wrong, and each try leaves a row at most.
"""

from collections.abc import Iterable

from tether_gauntlet.lab.shell import LabError
from tether_gauntlet.lab.topology import internet
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import LINKS, QUICK

TRIES = 3


def run(stage: Stage) -> None:
    stack = stage.start(server=QUICK)
    session = stage.shell()
    token = stack.admin("token", "create", "somewhere", "--relay").stdout.strip()
    stage.fault()
    for _ in range(TRIES):
        try:
            stack.log_in("client2", token=token)
        except LabError:
            pass  # refused at the door already: even better
        env = {"TETHER_URL": stack.url, "TETHER_TOKEN": token}
        stage.lab["client2"].tether("ssh", "dev", "true", env=env, check=False)
    stage.wait(20)
    session.echoes("still-here", 20)


def check(stage: Stage) -> Iterable[str]:
    rows = [row for row in stage.ended() if row["connect_type"] in LINKS and not row.get("excused")]
    if len(rows) > TRIES:
        yield f"{TRIES} tries with a wrong token left {len(rows)} rows"
    env = {"TETHER_URL": stage.stack.url, "TETHER_TOKEN": "tether_nobody"}
    said = stage.lab["client2"].tether("ssh", "dev", "true", env=env, check=False)
    if said.returncode != 255 or len(said.stderr.strip().splitlines()) != 1:
        yield f"a wrong token is told as {said.stderr.strip()!r}, with exit code {said.returncode}"


SCENARIO = Scenario(
    name="relays-token-in-a-client",
    summary="a client uses a relay's token",
    run=run,
    truths=(),
    limit_s=45,
    topology=internet(clients=2),
    tolerates=LINKS,
    check=check,
    one_middlebox="a decision is told alike through every middlebox",
)
