"""A minute without a network: the session waits."""

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import C2S


def run(stage: Stage) -> None:
    stage.start(server=())
    session = stage.shell()
    stage.fault()
    broken = faults.blackhole(stage.lab, "client")
    session.type("echo anybody there")
    stage.wait(60)
    broken.undo()
    session.echoes("still-here", 40)


SCENARIO = Scenario(
    name="outage-60s",
    summary="the client's router drops everything for 60 s",
    run=run,
    truths=(),
    limit_s=75,
    tolerates=frozenset({C2S}),
)
