"""A client loses its address and gets the same one back; later the load balancer is away for 3 s.

Truth: the load balancer ended the links. The address that they ran from was there.
"""

import time

from tether_gauntlet.lab import faults
from tether_gauntlet.lab.middlebox.kinds import HAPROXY_TCP, NGINX
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CALM, links_cut


def run(stage: Stage) -> None:
    stage.start(server=CALM)
    session = stage.shell()
    with faults.change_address(stage.lab, "client"):
        time.sleep(1)
    stage.calm(15, session)
    stage.fault()
    with stage.box.away():
        stage.wait(3)
    session.echoes("still-here", 40)


SCENARIO = Scenario(
    name="address-back-before-front-away",
    summary="the client's address goes and returns; 15 s after that the middlebox is away for 3 s",
    run=run,
    truths=links_cut(),
    limit_s=30,
    middleboxes=(NGINX, HAPROXY_TCP),
    tricky=True,
)
