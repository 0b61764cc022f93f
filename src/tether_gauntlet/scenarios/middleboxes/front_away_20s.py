"""The load balancer is gone for 20 s, longer than an agent may take to come back, and the relay with it.

Truth: the middlebox ended every connection; nobody behind it went away. Neither end of the tunnel has
left, so it waits as policy says, and its row stays open.
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
        stage.wait(20)
    session.echoes("still-here", 40)


SCENARIO = Scenario(
    name="front-away-20s",
    summary="the middlebox, and all tunnels through it, are gone for 20 s",
    run=run,
    truths=links_cut(),
    limit_s=60,
    middleboxes=STANDARD,
    tricky=True,
)
