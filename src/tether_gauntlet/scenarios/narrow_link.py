"""A phone at the edge of a cell: 64 kbit/s, and a build log."""

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage


def run(stage: Stage) -> None:
    stage.start()  # the shipped patience: a shorter one than this link's queue is long is no promise
    session = stage.shell()
    stage.fault()
    broken = faults.throttle(stage.lab, "client", kbit=64)
    session.type("for n in $(seq 15000); do echo line $n of a long build log; done")
    stage.wait(70)
    broken.undo()
    session.echoes("still-here", 60)


SCENARIO = Scenario(
    name="narrow-64kbit",
    summary="64 kbit/s for 70 s while a build prints",
    run=run,
    truths=(),
    limit_s=110,
    needs=frozenset({"tbf"}),
)
