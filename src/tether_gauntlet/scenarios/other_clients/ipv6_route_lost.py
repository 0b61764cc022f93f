"""A client that knows the server by IPv6 only loses its IPv6 route, for longer than a tunnel waits.

Truth: the client's own machine lost its way out, and says so. IPv4 was there and of no use.
"""

from tether_gauntlet.lab.ipv6 import give_ipv6, name_by_ipv6, no_ipv6_route
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, client_link, session


def run(stage: Stage) -> None:
    give_ipv6(stage.lab)
    name_by_ipv6(stage.lab, "client", "server")
    stage.start(
        server=(*QUICK, "--resume-s", "8", "--listen", "[::]:7080"),
        agent=("--direct-listen", "off"),
    )
    lost = stage.shell()
    stage.fault()
    with no_ipv6_route(stage.lab, "client"):
        lost.type("echo anybody there")
        stage.wait(30)


SCENARIO = Scenario(
    name="ipv6-route-lost",
    summary="the client's IPv6 default route is gone for 30 s; a tunnel waits 8",
    run=run,
    truths=(
        session("network_error", "network", False, "client.link_down"),
        client_link("network_error", "network", False, "client.link_down"),
    ),
    limit_s=60,
    tricky=True,
    plain_only="the laboratory's middleboxes are known by IPv4",
)
