"""The client's network is cut for 100 s behind nginx as it is shipped; a tunnel waits 30 s.

Truth: the network between the client and the proxy failed, for longer than the tunnel waits. The agent
was connected all the time, so that it cannot have vanished; the client lived, and comes back.
"""

from tether_gauntlet.lab import faults
from tether_gauntlet.lab.middlebox.kinds import NGINX
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import DARK, client_link, session


def run(stage: Stage) -> None:
    stage.start(server=("--resume-s", "30"))
    stage.shell()
    stage.fault()
    with faults.blackhole(stage.lab, "client"):
        stage.wait(100)


SCENARIO = Scenario(
    name="client-cut-off-as-shipped",
    summary="the client's network is cut for 100 s; a tunnel waits 30, all else is at its defaults",
    run=run,
    truths=(
        session("network_error", "network", False, *DARK),
        client_link("network_error", "network", False, *DARK),
    ),
    limit_s=140,
    middleboxes=(NGINX,),
    tricky=True,
)
