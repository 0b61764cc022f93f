"""The client's network wants somebody to log in, for 30 s: a captive portal.

Truth: the portal takes over what was open, and answers whatever is dialled. Neither end left. A tunnel
survives it: a reset by something in between says nothing about the client.
"""

from tether_gauntlet.lab.captive import captive_portal
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CUT, QUICK, client_link


def run(stage: Stage) -> None:
    stage.start(server=QUICK)
    session = stage.shell()
    stage.fault()
    with captive_portal(stage.lab, "client"):
        stage.wait(30)
    session.echoes("still-here", 40)


SCENARIO = Scenario(
    name="captive-portal-30s",
    summary="a captive portal takes the client's connections for 30 s",
    run=run,
    truths=(
        client_link(
            "network_error",
            "network",
            False,
            "network.proxy_refused",
            "network.tls_intercepted",
            CUT,
        ),
    ),
    limit_s=75,
    needs=frozenset({"nft-nat", "conntrack"}),
    tricky=True,
)
