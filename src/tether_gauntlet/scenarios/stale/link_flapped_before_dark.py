"""The cable of a client is pulled for a second; later its network is cut, far from it.

Truth: something on the way dropped the packets. The link had been up again, and was when it happened.
"""

import time

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CALM, DARK, client_link, session


def run(stage: Stage) -> None:
    stage.start(server=(*CALM, "--resume-s", "8"))
    before = stage.shell()
    with faults.link_down(stage.lab, "client"):
        time.sleep(1)
    stage.calm(15, before)
    stage.fault()
    with faults.blackhole(stage.lab, "client"):
        before.type("echo anybody there")
        stage.wait(35)


SCENARIO = Scenario(
    name="link-flapped-before-dark",
    summary="the client's link flaps; 15 s after that its network is cut for 35 s",
    run=run,
    truths=(
        session("network_error", "network", False, *DARK),
        client_link("network_error", "network", False, *DARK),
    ),
    limit_s=60,
    tricky=True,
    one_middlebox="what is stale is so behind every middlebox",
)
