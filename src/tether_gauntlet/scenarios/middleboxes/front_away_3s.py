"""The load balancer is killed and started again 3 s later.

Truth: its kernel ends every connection, at both ends, and neither end did. Whoever dials meanwhile is
refused, by the machine of something in between. Sessions resume.
"""

from tether_gauntlet.lab.middlebox.kinds import STANDARD
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, links_cut


def run(stage: Stage) -> None:
    stage.start(server=QUICK)
    session = stage.shell()
    stage.fault()
    with stage.box.away():
        stage.wait(3)
    session.echoes("still-here", 40)


SCENARIO = Scenario(
    name="front-away-3s",
    summary="the middlebox is killed and comes back after 3 s",
    run=run,
    truths=links_cut(),
    limit_s=30,
    middleboxes=STANDARD,
)
