"""The router at home forgets its connections: both ends are reset at once.

Behind a middlebox the server's end is the middlebox's, which ends it in order: that something in between
cut the connection is all that may be told.
"""

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import ANY, Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CUT, QUICK, client_link


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
    behind={ANY: (client_link("network_error", "network", False, "network.nat_rebinding", CUT),)},
    needs=frozenset({"nft-nat", "conntrack"}),
)
