"""A load balancer accepts connections and closes them at once for 20 s, as one without a live backend.

Truth: it cut what there was; the dials that fail after that are no ends. The session waits.
"""

from tether_gauntlet.lab.middlebox.kinds import HAPROXY, HAPROXY_TCP, NGINX
from tether_gauntlet.lab.middlebox.misbehaving import hanging_up
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CUT, QUICK, links_cut


def run(stage: Stage) -> None:
    stage.start(server=QUICK)
    session = stage.shell()
    stage.fault()
    with stage.box.become(hanging_up(stage.box.box)):
        stage.wait(20)
    session.echoes("still-here", 40)


SCENARIO = Scenario(
    name="hangs-up",
    summary="the middlebox accepts and closes for 20 s, with tunnels through it",
    run=run,
    truths=links_cut(CUT, "network.proxy_refused"),
    limit_s=50,
    middleboxes=(NGINX, HAPROXY, HAPROXY_TCP),
    tricky=True,
)
