"""A company's proxy is restarted and refuses everybody for 20 s.

Truth: its restart cut what went through it, and its refusal stood in the way after it.
"""

from tether_gauntlet.lab.middlebox.kinds import SQUID
from tether_gauntlet.lab.middlebox.squid import squid
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CUT, QUICK, links_cut


def run(stage: Stage) -> None:
    stage.start(server=QUICK)
    session = stage.shell()
    stage.fault()
    with stage.box.become(squid(denies=True)):
        stage.wait(20)
    session.echoes("still-here", 40)


SCENARIO = Scenario(
    name="proxy-denies",
    summary="squid is restarted and answers 403 for 20 s",
    run=run,
    truths=links_cut(CUT, "network.proxy_refused"),
    limit_s=50,
    middleboxes=(SQUID,),
)
