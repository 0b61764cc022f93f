"""The server's database cannot be written for a while."""

import sqlite3

from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import LINKS, QUICK


def run(stage: Stage) -> None:
    stage.start(server=QUICK)
    session = stage.shell()
    path = stage.lab["server"].directory / "server" / "server.db"
    stage.fault()
    held = sqlite3.connect(path, isolation_level=None)
    try:
        held.execute("BEGIN EXCLUSIVE")
        stage.wait(20)
    finally:
        held.close()
    session.echoes("still-here", 30)


SCENARIO = Scenario(
    name="database-outage",
    summary="another program holds the server's database for 20 s",
    run=run,
    truths=(),
    limit_s=40,
    tolerates=LINKS,
    plain_only="a database is no connection",
)
