"""A VPN comes up on the client and goes again; later its network is cut.

Truth: the network was cut. The route was the old one again, and was used.
"""

import time

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CALM, DARK, client_link, session


def run(stage: Stage) -> None:
    stage.start(server=(*CALM, "--resume-s", "8"))
    before = stage.shell()
    with faults.vpn(stage.lab, "client"):
        time.sleep(1)
    stage.calm(15, before)
    stage.fault()
    with faults.blackhole(stage.lab, "client"):
        before.type("echo anybody there")
        stage.wait(35)


SCENARIO = Scenario(
    name="vpn-gone-before-dark",
    summary="a VPN came and went; 15 s after that the client's network is cut for 35 s",
    run=run,
    truths=(
        session("network_error", "network", False, *DARK),
        client_link("network_error", "network", False, *DARK),
    ),
    limit_s=60,
    tricky=True,
    needs=frozenset({"tun"}),
    one_middlebox="what is stale is so behind every middlebox",
)
