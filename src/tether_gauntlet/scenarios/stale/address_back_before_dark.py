"""A client loses its address and gets the same one back; later its network is cut.

Truth: the network was cut. The address was there again, and the streams from it went on.
"""

import time

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CALM, DARK, client_link, session


def run(stage: Stage) -> None:
    stage.start(server=(*CALM, "--resume-s", "8"))
    before = stage.shell()
    with faults.change_address(stage.lab, "client"):
        time.sleep(1)
    stage.calm(15, before)
    stage.fault()
    with faults.blackhole(stage.lab, "client"):
        before.type("echo anybody there")
        stage.wait(35)


SCENARIO = Scenario(
    name="address-back-before-dark",
    summary="the client's address goes and returns; 15 s after that its network is cut for 35 s",
    run=run,
    truths=(
        session("network_error", "network", False, *DARK),
        client_link("network_error", "network", False, *DARK),
    ),
    limit_s=60,
    tricky=True,
    one_middlebox="what is stale is so behind every middlebox",
)
