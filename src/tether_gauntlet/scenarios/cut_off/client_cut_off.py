"""The client's network is cut for 40 s, behind a proxy that is trusted.

Truth: the network between the client and the proxy failed. The proxy's kernel acknowledges for the
client: that is no sign of a client that stands still. The tunnel waits longer than that, and its row
shows the gap that it lived through.
"""

from collections.abc import Iterable

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


def check(stage: Stage) -> Iterable[str]:
    events = stage.stack.explain(stage.sessions[0].connection_id)["path_events"]
    longest = max((event["gap_s"] for event in events), default=0.0)
    if longest < 25:
        yield f"an outage of 40 s is a gap of {longest:g} s in the session's path"


SCENARIO = Scenario(
    name="client-cut-off-40s",
    summary="the client's network is cut for 40 s behind a middlebox",
    run=run,
    truths=(client_link("network_error", "network", False, *DARK),),
    limit_s=75,
    middleboxes=(NGINX, HAPROXY, HAPROXY_TCP),
    tricky=True,
    check=check,
)
