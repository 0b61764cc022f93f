"""A person closes the window: ssh is told to end, and says so."""

import signal

from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CLIENT_LEFT, session


def run(stage: Stage) -> None:
    stage.start()
    session = stage.shell()
    stage.fault()
    session.signal(signal.SIGTERM, everything=False)


SCENARIO = Scenario(
    name="client-terminated",
    summary="ssh gets SIGTERM",
    run=run,
    truths=(
        session("client_closed", "client", True, "client.closed"),
        CLIENT_LEFT,
    ),
    limit_s=15,
    one_middlebox="a process ends alike behind every middlebox",
)
