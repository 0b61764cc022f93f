"""The router at home forgets its connections: both ends are reset at once."""

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, client_link


def run(stage: Stage) -> None:
    stage.start(server=QUICK)
    session = stage.shell()
    stage.fault()
    faults.rebind_nat(stage.lab)
    session.type("echo anybody there")
    stage.wait(12)
    session.echoes("still-here", 30)


SCENARIO = Scenario(
    name="nat-rebinding",
    summary="the NAT gives connections other ports",
    run=run,
    truths=(client_link("network_error", "network", False, "network.nat_rebinding"),),
    limit_s=40,
    tricky=True,
    needs=frozenset({"nft-nat", "conntrack"}),
)
