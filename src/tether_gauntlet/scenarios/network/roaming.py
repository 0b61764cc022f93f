"""The client changes networks: another address, the session goes on."""

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, client_link


def run(stage: Stage) -> None:
    stage.start(server=QUICK)
    session = stage.shell()
    stage.fault()
    faults.change_address(stage.lab, "client")
    session.type("echo anybody there")
    stage.wait(15)
    session.echoes("still-here", 30)


SCENARIO = Scenario(
    name="roaming",
    summary="the client's address changes",
    run=run,
    truths=(client_link("path_changed", "network", False, "client.roamed"),),
    limit_s=40,
)
