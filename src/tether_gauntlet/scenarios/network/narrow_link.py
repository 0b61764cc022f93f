"""A phone at the edge of a cell: 64 kbit/s, and a build log."""

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK


def run(stage: Stage) -> None:
    stage.start(server=QUICK)
    session = stage.shell()
    stage.fault()
    broken = faults.throttle(stage.lab, "client", kbit=64)
    session.type("for n in $(seq 2000); do echo line $n of a long build log; done")
    stage.wait(30)
    broken.undo()
    session.echoes("still-here", 60)


SCENARIO = Scenario(
    name="narrow-64kbit",
    summary="64 kbit/s for 30 s while a build prints",
    run=run,
    truths=(),
    limit_s=60,
    needs=frozenset({"tbf"}),
    plain_only="the narrow link is the client's own, whatever stands behind it",
)
