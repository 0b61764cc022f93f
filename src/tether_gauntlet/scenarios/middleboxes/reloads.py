"""A proxy is reloaded: what is open may drain for some seconds, and is ended then.

Truth: its operator's reload ended the connections, in between, and nobody else did. New ones had been
served all the time.
"""

from tether_gauntlet.lab.middlebox.kinds import HAPROXY, HAPROXY_TCP, NGINX
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, links_cut


def run(stage: Stage) -> None:
    stage.start(server=QUICK)
    session = stage.shell()
    stage.fault()
    stage.box.reload()
    stage.wait(12)
    session.echoes("still-here", 40)


SCENARIO = Scenario(
    name="front-reloads",
    summary="the middlebox is reloaded, and drains for 3 to 5 s",
    run=run,
    truths=links_cut(),
    limit_s=30,
    middleboxes=(NGINX, HAPROXY, HAPROXY_TCP),
)
