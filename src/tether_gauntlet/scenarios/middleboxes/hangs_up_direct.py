"""A load balancer accepts connections and closes them at once, in front of the control plane only.

Truth: the control links were cut in between. The session goes directly to the agent and is not
concerned: an agent whose dials fail, however they fail, goes on serving.
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
        stage.wait(12)
        session.echoes("meanwhile", 10)
        stage.wait(20)
    session.echoes("still-here", 10)


SCENARIO = Scenario(
    name="hangs-up-direct",
    summary="the middlebox accepts and closes for 20 s, and no session goes through it",
    run=run,
    truths=links_cut(CUT, "network.proxy_refused"),
    limit_s=50,
    middleboxes=(NGINX, HAPROXY, HAPROXY_TCP),
    direct=True,
    tricky=True,
)
