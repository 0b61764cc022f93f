"""The direct way is cut and heals: the session goes through the relay meanwhile."""

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK


def run(stage: Stage) -> None:
    stage.start(server=QUICK)
    session = stage.shell()
    stage.fault()
    broken = faults.blackhole(stage.lab, "client", peer="agent1")
    session.type("echo anybody there")
    stage.wait(20)
    broken.undo()
    session.echoes("still-here", 30)


SCENARIO = Scenario(
    name="direct-path-cut",
    summary="client and agent cannot reach each other for 20 s",
    run=run,
    truths=(),
    limit_s=40,
    direct=True,
)
