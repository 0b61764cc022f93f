"""A load balancer says to the server that agent and client have ended, and to those nothing.

Truth: the server reads an end of file that nobody sent; agent and client live, and are the same runs
when they come back. What ended the links lies in between.
"""

from tether_gauntlet.lab.middlebox.rogue import order, rogue
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, links_cut


def run(stage: Stage) -> None:
    stage.start(server=QUICK)
    session = stage.shell()
    stage.fault()
    order(stage.box, "half-close server")
    session.echoes("still-here", 40)


SCENARIO = Scenario(
    name="half-closed-to-server",
    summary="the middlebox half-closes every connection, towards the server",
    run=run,
    truths=links_cut(),
    limit_s=30,
    middleboxes=(rogue(),),
    tricky=True,
)
