"""A satellite: 800 ms there and 800 ms back."""

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK


def run(stage: Stage) -> None:
    stage.start(server=QUICK)
    session = stage.shell()
    stage.fault()
    faults.delay(stage.lab, "client", ms=800)
    session.type("echo anybody there")
    stage.wait(30)
    session.echoes("still-here", 30)


SCENARIO = Scenario(
    name="delay-800ms",
    summary="800 ms of delay each way for 30 s",
    run=run,
    truths=(),
    limit_s=40,
    needs=frozenset({"tun"}),
    plain_only="the slow link is the client's own, whatever stands behind it",
)
