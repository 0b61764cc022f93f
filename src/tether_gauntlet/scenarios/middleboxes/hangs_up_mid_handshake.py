"""A load balancer loses its connections, and then accepts, reads nothing and closes: plain TCP.

Truth: as of any load balancer that hangs up; this one does it before a byte of the WebSocket handshake
could be read.
"""

from tether_gauntlet.lab.middlebox.rogue import order, rogue
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CUT, QUICK, links_cut


def run(stage: Stage) -> None:
    stage.start(server=QUICK)
    session = stage.shell()
    stage.fault()
    order(stage.box, "hang-up")
    order(stage.box, "cut")
    stage.wait(20)
    order(stage.box, "serve")
    session.echoes("still-here", 40)


SCENARIO = Scenario(
    name="hangs-up-mid-handshake",
    summary="the middlebox cuts all, then accepts and closes for 20 s",
    run=run,
    truths=links_cut(CUT, "network.proxy_refused"),
    limit_s=50,
    middleboxes=(rogue(),),
    tricky=True,
)
