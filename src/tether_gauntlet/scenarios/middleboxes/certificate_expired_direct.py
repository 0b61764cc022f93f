"""The proxy in front of the control plane has a certificate that ran out; the session goes directly.

Truth: the control links were cut in between, and cannot come back for 20 s. The session lives on.
"""

from dataclasses import replace

from tether_gauntlet.lab.middlebox.kinds import NGINX
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CUT, QUICK, links_cut


def run(stage: Stage) -> None:
    stage.start(server=QUICK)
    session = stage.shell()
    stage.fault()
    with stage.box.become(replace(stage.box.box, expired=True)):
        stage.wait(20)
        session.echoes("meanwhile", 10)
    session.echoes("still-here", 10)


SCENARIO = Scenario(
    name="certificate-expired-direct",
    summary="the middlebox has an expired certificate for 20 s, and no session goes through it",
    run=run,
    truths=links_cut(CUT, "network.tls_intercepted"),
    limit_s=50,
    middleboxes=(NGINX,),
    direct=True,
    tricky=True,
)
