"""A proxy ends what it heard nothing on for 8 s; control links are silent for 15.

Truth: the proxy's idle time ended them, again and again, until the product learns to be less silent:
how many it takes is not for the scenario to say. An idle tunnel's legs are cut likewise, and resume.
"""

from tether_gauntlet.lab.middlebox.misbehaving import impatient
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CUT, links_cut


def run(stage: Stage) -> None:
    stage.start()
    session = stage.shell()
    stage.fault()
    stage.wait(60)
    session.echoes("still-here", 40)


SCENARIO = Scenario(
    name="front-idle-cut",
    summary="the middlebox ends what was silent for 8 s, for a minute",
    run=run,
    truths=links_cut("network.idle_timeout", CUT, or_more=True),
    limit_s=75,
    middleboxes=impatient(8),
    tricky=True,
)
