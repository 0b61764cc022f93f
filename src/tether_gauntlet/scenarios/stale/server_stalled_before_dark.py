"""The server stood still and went on; later a client's network is cut.

Truth: the network was cut. The server has been heard since it stood still.
"""

import time

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CALM, DARK, client_link, session


def run(stage: Stage) -> None:
    stack = stage.start(server=(*CALM, "--resume-s", "8"))
    before = stage.shell()
    with faults.stop_process(stage.lab, stack.server):
        time.sleep(7)
    stage.calm(15, before)
    stage.fault()
    with faults.blackhole(stage.lab, "client"):
        before.type("echo anybody there")
        stage.wait(35)


SCENARIO = Scenario(
    name="server-stalled-before-dark",
    summary="the server is stopped for 7 s; 15 s after that the client's network is cut for 35 s",
    run=run,
    truths=(
        session("network_error", "network", False, *DARK),
        client_link("network_error", "network", False, *DARK),
    ),
    limit_s=60,
    tricky=True,
    one_middlebox="what is stale is so behind every middlebox",
)
