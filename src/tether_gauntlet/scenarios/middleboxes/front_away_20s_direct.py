"""The load balancer of the control plane is gone for 20 s; the session goes directly to the agent.

Truth: the control plane was cut off and the data plane was not touched: the control links were cut by
something in between, the session's row stays open, and the session lives.
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
    session.echoes("still-here", 10)


SCENARIO = Scenario(
    name="front-away-20s-direct",
    summary="the middlebox is gone for 20 s, and no session goes through it",
    run=run,
    truths=links_cut(),
    limit_s=60,
    middleboxes=STANDARD,
    direct=True,
    tricky=True,
)
