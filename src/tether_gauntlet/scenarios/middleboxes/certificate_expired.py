"""The proxy that ends TLS is restarted with an expired certificate, for 20 s; sessions go through it.

Truth: its restart cut the links, and its certificate stood in the way after it. Nobody at either end
left, and the session waits.
"""

from dataclasses import replace

from tether_gauntlet.lab.middlebox.kinds import NGINX, STUNNEL
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CUT, QUICK, links_cut


def run(stage: Stage) -> None:
    stage.start(server=QUICK)
    session = stage.shell()
    stage.fault()
    with stage.box.become(replace(stage.box.box, expired=True)):
        stage.wait(20)
    session.echoes("still-here", 40)


SCENARIO = Scenario(
    name="certificate-expired",
    summary="the middlebox is restarted, with an expired certificate for 20 s",
    run=run,
    truths=links_cut(CUT, "network.tls_intercepted"),
    limit_s=50,
    middleboxes=(NGINX, STUNNEL),
    tricky=True,
)
