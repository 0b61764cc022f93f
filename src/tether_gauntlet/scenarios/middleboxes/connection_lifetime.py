"""A load balancer ends each connection 12 s after it began, busy or not.

Truth: something in between ends them; no idle time does, since there are pings every 2 s. Sessions
resume each time.
"""

from tether_gauntlet.lab.middlebox.rogue import rogue
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, links_cut


def run(stage: Stage) -> None:
    stage.start(server=QUICK)
    session = stage.shell()
    stage.fault()
    stage.wait(20)
    session.echoes("still-here", 40)


SCENARIO = Scenario(
    name="connection-lifetime",
    summary="the middlebox ends every connection after 12 s",
    run=run,
    truths=links_cut(rows=2, or_more=True),
    limit_s=45,
    middleboxes=(rogue(lifetime_s=12),),
    tricky=True,
)
