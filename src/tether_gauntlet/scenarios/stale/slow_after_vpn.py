"""A VPN comes up whose round trip takes 5 s, and stays.

Truth: the client's way changed, which cost its control link, and nothing else happened: a slow answer is
no silence. The session moves over and lives.
"""

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import client_link


def run(stage: Stage) -> None:
    stage.start(server=("--ping-every", "5", "--patience", "20"))
    session = stage.shell()
    stage.fault()
    faults.vpn(stage.lab, "client", ms=2500)
    session.type("echo anybody there")
    stage.wait(30)
    session.echoes("still-here", 60)
    session.echoes("and-again", 30)


SCENARIO = Scenario(
    name="slow-after-vpn",
    summary="a VPN with a round trip of 5 s comes up on the client",
    run=run,
    truths=(client_link("path_changed", "network", False, "client.vpn_changed", "client.roamed"),),
    limit_s=100,
    needs=frozenset({"tun"}),
    tricky=True,
    one_middlebox="what is stale is so behind every middlebox",
)
