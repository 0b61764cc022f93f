"""A client stood still (Ctrl-Z) and went on; later its network is cut, for longer than a tunnel waits.

Truth: the network was cut. Whoever has answered since did not stand still when it was.
"""

import signal
import time

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CALM, DARK, client_link, session


def run(stage: Stage) -> None:
    stage.start(server=(*CALM, "--resume-s", "8"))
    before = stage.shell()
    before.signal(signal.SIGSTOP)
    time.sleep(7)
    before.signal(signal.SIGCONT)
    stage.calm(15, before)
    stage.fault()
    with faults.blackhole(stage.lab, "client"):
        before.type("echo anybody there")
        stage.wait(35)


SCENARIO = Scenario(
    name="stalled-before-dark",
    summary="the client is stopped for 7 s; 15 s after that its network is cut for 35 s",
    run=run,
    truths=(
        session("network_error", "network", False, *DARK),
        client_link("network_error", "network", False, *DARK),
    ),
    limit_s=60,
    tricky=True,
    one_middlebox="what is stale is so behind every middlebox",
)
