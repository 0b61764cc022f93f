"""Four seconds without a network."""

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK


def run(stage: Stage) -> None:
    stage.start(server=QUICK)
    session = stage.shell()
    stage.fault()
    broken = faults.blackhole(stage.lab, "client")
    session.type("echo anybody there")
    stage.wait(4)
    broken.undo()
    session.echoes("still-here", 30)


SCENARIO = Scenario(
    name="outage-4s",
    summary="the client's router drops everything for 4 s",
    run=run,
    truths=(),
    limit_s=20,
)
