"""A load balancer forgets what is silent for 8 s; control links are silent for 15.

How many of them it cuts in a minute is the product's to say, which may learn to be less silent. The
first alone tells nothing of an idle time: there are at least two.
"""

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import client_link


def run(stage: Stage) -> None:
    stage.start(server=())
    session = stage.shell()
    stage.fault()
    faults.idle_timeout(stage.lab, seconds=8, resets=True)
    stage.wait(60)
    session.echoes("still-here", 30)


SCENARIO = Scenario(
    name="middlebox-idle-timeout",
    summary="a middlebox resets what was silent for 8 s, again and again",
    run=run,
    truths=(
        client_link(
            "network_error", "network", False, "network.idle_timeout", rows=2, or_more=True
        ),
    ),
    limit_s=75,
    needs=frozenset({"nft-conntrack", "nft-reject", "conntrack"}),
)
