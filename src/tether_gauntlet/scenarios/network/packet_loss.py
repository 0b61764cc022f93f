"""A bad Wi-Fi: a third of the packets is lost, and nothing ends."""

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK


def run(stage: Stage) -> None:
    stage.start(server=QUICK)
    session = stage.shell()
    stage.fault()
    broken = faults.lose(stage.lab, "client", percent=30)
    session.type("echo anybody there")
    stage.wait(40)
    broken.undo()
    session.echoes("still-here", 30)


SCENARIO = Scenario(
    name="loss-30",
    summary="30 % of the client's packets are lost for 40 s",
    run=run,
    truths=(),
    limit_s=50,
    needs=frozenset({"nft-random"}),
    plain_only="the lossy link is the client's own, whatever stands behind it",
)
