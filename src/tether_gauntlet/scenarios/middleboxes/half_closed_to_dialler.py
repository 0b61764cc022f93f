"""A load balancer says to whoever dialled that the server has ended, and to the server nothing.

Truth: agent and client read an end of file that the server never sent. What ended the links lies in
between; that the server reads the end of file of those who left in answer changes nothing.
"""

from tether_gauntlet.lab.middlebox.rogue import order, rogue
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, links_cut


def run(stage: Stage) -> None:
    stage.start(server=QUICK)
    session = stage.shell()
    stage.fault()
    order(stage.box, "half-close dialler")
    session.echoes("still-here", 40)


SCENARIO = Scenario(
    name="half-closed-to-dialler",
    summary="the middlebox half-closes every connection, towards who dialled",
    run=run,
    truths=links_cut(),
    limit_s=30,
    middleboxes=(rogue(),),
    tricky=True,
)
