"""The proxy in front answers every request with a page of its own, for 20 s.

Truth: it was restarted for that, so it cut what there was, and it stands in the way after it. Both say
that something in between did it, and the session waits.
"""

from tether_gauntlet.lab.middlebox.kinds import NGINX
from tether_gauntlet.lab.middlebox.nginx import nginx
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CUT, QUICK, links_cut


def run(stage: Stage) -> None:
    stage.start(server=QUICK)
    session = stage.shell()
    stage.fault()
    with stage.box.become(nginx(answer="page")):
        stage.wait(20)
    session.echoes("still-here", 40)


SCENARIO = Scenario(
    name="front-answers-page",
    summary="the middlebox is restarted and answers with a page for 20 s",
    run=run,
    truths=links_cut(CUT, "network.proxy_refused"),
    limit_s=50,
    middleboxes=(NGINX,),
)
