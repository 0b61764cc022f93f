"""A firewall restarts: what was established is dropped in silence, new connections work."""

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, client_link


def run(stage: Stage) -> None:
    stage.start(server=QUICK)
    session = stage.shell()
    stage.fault()
    faults.lose_state(stage.lab)
    session.type("echo anybody there")
    stage.wait(15)
    session.echoes("still-here", 30)


SCENARIO = Scenario(
    name="firewall-state-lost",
    summary="the client's firewall loses its state",
    run=run,
    truths=(
        client_link(
            "network_error",
            "network",
            False,
            # the router knows the connection no more, and answers the server's packets with RST
            "network.middlebox_reset",
            "network.path_lost",
            "network.state_lost",
            "client.unreachable",
        ),
    ),
    limit_s=45,
    needs=frozenset({"nft-conntrack", "conntrack"}),
)
