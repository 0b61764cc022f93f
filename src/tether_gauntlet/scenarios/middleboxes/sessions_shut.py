"""An operator lets HAProxy end every session to the server (`shutdown sessions server`).

Truth: HAProxy ended them, at both ends at once.
"""

from tether_gauntlet.lab.middlebox.haproxy import shut_sessions
from tether_gauntlet.lab.middlebox.kinds import HAPROXY, HAPROXY_TCP
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, links_cut


def run(stage: Stage) -> None:
    stage.start(server=QUICK)
    session = stage.shell()
    stage.fault()
    shut_sessions(stage.box.host, stage.box.box)
    session.echoes("still-here", 40)


SCENARIO = Scenario(
    name="sessions-shut",
    summary="HAProxy's operator shuts every session to the server",
    run=run,
    truths=links_cut(),
    limit_s=25,
    middleboxes=(HAPROXY, HAPROXY_TCP),
    needs=frozenset({"socat"}),
)
