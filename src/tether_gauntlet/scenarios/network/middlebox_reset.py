"""A middlebox resets the client's connections; the server never hears of it."""

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, client_link


def run(stage: Stage) -> None:
    stage.start(server=QUICK)
    session = stage.shell()
    stage.fault()
    broken = faults.reset(stage.lab, "client")
    session.type("echo anybody there")
    stage.wait(6)
    broken.undo()
    session.echoes("still-here", 30)


SCENARIO = Scenario(
    name="middlebox-reset",
    summary="a middlebox answers the client with RST for 6 s",
    run=run,
    truths=(client_link("network_error", "network", False, "network.middlebox_reset"),),
    limit_s=40,
    tricky=True,
    needs=frozenset({"nft-reject"}),
)
