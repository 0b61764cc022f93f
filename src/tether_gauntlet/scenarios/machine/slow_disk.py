"""The disk is busy: every write waits."""

from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK


def run(stage: Stage) -> None:
    stage.start(server=QUICK)
    session = stage.shell()
    stage.fault()
    writers = [stage.scribble("agent1", n) for n in range(2)]
    writers += [stage.scribble("server", n) for n in range(2)]
    stage.wait(20)
    for program in writers:
        program.kill()
    session.echoes("still-here", 30)


SCENARIO = Scenario(
    name="slow-disk",
    summary="four programs write and sync on the same disk for 20 s",
    run=run,
    truths=(),
    limit_s=25,
    plain_only="a disk is no connection",
)
