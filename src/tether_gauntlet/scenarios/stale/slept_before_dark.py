"""A laptop napped and woke; later its network is cut, for longer than a tunnel waits.

Truth: the network was cut. The sleep was over, and much was heard after it: it explains nothing.
"""

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CALM, DARK, client_link, session


def run(stage: Stage) -> None:
    stage.start(server=(*CALM, "--resume-s", "8"))
    before = stage.shell(env={"TETHER_CLOCK_SHIFT_FILE": str(stage.clock("client"))})
    stage.nap(before, 8)
    stage.calm(15, before)
    stage.fault()
    with faults.blackhole(stage.lab, "client"):
        before.type("echo anybody there")
        stage.wait(35)


SCENARIO = Scenario(
    name="slept-before-dark",
    summary="the client naps for 8 s; 15 s after that its network is cut for 35 s",
    run=run,
    truths=(
        session("network_error", "network", False, *DARK),
        client_link("network_error", "network", False, *DARK),
    ),
    limit_s=60,
    tricky=True,
    one_middlebox="what is stale is so behind every middlebox",
)
