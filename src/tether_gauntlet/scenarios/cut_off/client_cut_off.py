"""The client's network is cut for 40 s, behind a proxy that is trusted.

Truth: the network between the client and the proxy failed. The proxy's kernel acknowledges for the
client: that is no sign of a client that stands still. The tunnel waits longer than that.
"""

from tether_gauntlet.lab import faults
from tether_gauntlet.lab.middlebox.kinds import HAPROXY, HAPROXY_TCP, NGINX
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import DARK, QUICK, client_link


def run(stage: Stage) -> None:
    stage.start(server=QUICK)
    session = stage.shell()
    stage.fault()
    with faults.blackhole(stage.lab, "client"):
        session.type("echo anybody there")
        stage.wait(40)
    session.echoes("still-here", 60)


SCENARIO = Scenario(
    name="client-cut-off-40s",
    summary="the client's network is cut for 40 s behind a middlebox",
    run=run,
    truths=(client_link("network_error", "network", False, *DARK),),
    limit_s=75,
    middleboxes=(NGINX, HAPROXY, HAPROXY_TCP),
    tricky=True,
)
