"""One person's client is killed; another's network is cut in the same second.

Truth: each has a story of their own. The killed one crashed; the other one's network failed, for longer
than a tunnel waits.
"""

import signal

from tether_gauntlet.lab import faults
from tether_gauntlet.lab.topology import internet
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CLIENT_DIED, DARK, QUICK, client_link, of, session


def run(stage: Stage) -> None:
    stage.start(server=(*QUICK, "--resume-s", "8"))
    stage.another()
    killed = stage.shell()
    cut = stage.shell(workspace="hers", host="client2")
    stage.fault()
    with faults.blackhole(stage.lab, "client2"):
        killed.signal(signal.SIGKILL)
        cut.type("echo anybody there")
        stage.wait(30)


SCENARIO = Scenario(
    name="client-killed-other-dark",
    summary="a client is killed as another's network is cut for 30 s",
    run=run,
    truths=(
        of(session("process_crashed", "client", False, "client.vanished"), user="admin"),
        of(CLIENT_DIED, user="admin"),
        of(session("network_error", "network", False, *DARK), user="alice"),
        of(client_link("network_error", "network", False, *DARK), user="alice"),
    ),
    limit_s=60,
    topology=internet(clients=2, agents=2),
    tricky=True,
    one_middlebox="whose fault is whose does not depend on the kind of middlebox",
)
