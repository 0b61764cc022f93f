"""The client's cable is pulled for 20 s: nothing ended."""

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import C2S


def run(stage: Stage) -> None:
    stage.start(server=())
    session = stage.shell()
    stage.fault()
    broken = faults.link_down(stage.lab, "client")
    session.type("echo anybody there")
    stage.wait(20)
    broken.undo()
    session.echoes("still-here", 30)


SCENARIO = Scenario(
    name="link-down-briefly",
    summary="the client's link is down for 20 s",
    run=run,
    truths=(),
    limit_s=45,
    tolerates=frozenset({C2S}),
)
