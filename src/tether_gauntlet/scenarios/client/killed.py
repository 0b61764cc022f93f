"""The kernel closes a killed program's sockets in good order: a FIN, as of a polite leaver."""

import signal

from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CLIENT_DIED, session


def run(stage: Stage) -> None:
    stage.start()
    session = stage.shell()
    stage.fault()
    session.signal(signal.SIGKILL)


SCENARIO = Scenario(
    name="client-killed",
    summary="ssh and its ProxyCommand get SIGKILL",
    run=run,
    truths=(
        session(
            "process_crashed", "client", False, "client.vanished", "client.crashed", "client.killed"
        ),
        CLIENT_DIED,
    ),
    limit_s=30,
    tricky=True,
)
