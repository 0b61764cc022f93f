"""The client's network is cut for longer than a tunnel waits, behind a proxy that ends silent legs.

Truth: the client could not be reached; the agent was there all the time, and says so. That the proxy
closed the agent's silent leg to the relay meanwhile ended nothing: the tunnel had no client any more.
"""

from tether_gauntlet.lab import faults
from tether_gauntlet.lab.middlebox.misbehaving import impatient
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import DARK, QUICK, client_link, session


def run(stage: Stage) -> None:
    stage.start(server=(*QUICK, "--resume-s", "15"))
    lost = stage.shell()
    stage.fault()
    with faults.blackhole(stage.lab, "client"):
        lost.type("echo anybody there")
        stage.wait(45)


SCENARIO = Scenario(
    name="client-cut-off-for-good",
    summary="the client's network is cut for 45 s; a tunnel waits 15, the middlebox 8",
    run=run,
    truths=(
        session("network_error", "network", False, *DARK),
        client_link("network_error", "network", False, *DARK),
    ),
    limit_s=75,
    middleboxes=impatient(8)[:3],
    tricky=True,
)
