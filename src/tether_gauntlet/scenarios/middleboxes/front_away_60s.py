"""The load balancer is gone for a minute, as while somebody replaces it.

Truth: as for 20 s. Both ends of the tunnel live and wait.
"""

from tether_gauntlet.lab.middlebox.kinds import HAPROXY_TCP, NGINX
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, links_cut


def run(stage: Stage) -> None:
    stage.start(server=QUICK)
    session = stage.shell()
    stage.fault()
    with stage.box.away():
        stage.wait(60)
    session.echoes("still-here", 60)


SCENARIO = Scenario(
    name="front-away-60s",
    summary="the middlebox, and all tunnels through it, are gone for 60 s",
    run=run,
    truths=links_cut(),
    limit_s=100,
    middleboxes=(NGINX, HAPROXY_TCP),
    tricky=True,
)
