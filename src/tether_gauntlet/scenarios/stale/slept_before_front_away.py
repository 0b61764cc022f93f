"""A laptop napped and woke; later the load balancer is killed, and comes back after 3 s.

Truth: the load balancer ended the links. The sleep was over: it is no reason, and not expected.
"""

from tether_gauntlet.lab.middlebox.kinds import HAPROXY_TCP, NGINX
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CALM, links_cut


def run(stage: Stage) -> None:
    stage.start(server=CALM)
    session = stage.shell(env={"TETHER_CLOCK_SHIFT_FILE": str(stage.clock("client"))})
    stage.nap(session, 8)
    stage.calm(15, session)
    stage.fault()
    with stage.box.away():
        stage.wait(3)
    session.echoes("still-here", 40)


SCENARIO = Scenario(
    name="slept-before-front-away",
    summary="the client naps for 8 s; 15 s after that the middlebox is away for 3 s",
    run=run,
    truths=links_cut(),
    limit_s=30,
    middleboxes=(NGINX, HAPROXY_TCP),
    tricky=True,
)
