"""A user closes the terminal in an outage; the client's word of it comes with the next one, after 40 s.

Truth: the user closed it, 2 s into the cut. The tunnel waits 8 s, so that the record says something of
the network first, and is revised. The client stays to report it: its control link is lost to the cut
meanwhile, and it says goodbye on the next one.
"""

import signal

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CLIENT_LEFT, PATIENT, client_link, session


def run(stage: Stage) -> None:
    stage.start(server=(*PATIENT, "--resume-s", "8"))
    left = stage.shell()
    stage.fault()
    with faults.blackhole(stage.lab, "client"):
        stage.wait(2)
        left.signal(signal.SIGHUP, everything=False)
        left.ssh.exit_code(30)
        stage.wait(40)
    stage.shell()


SCENARIO = Scenario(
    name="closed-while-cut-off",
    summary="the user closes the terminal while the network is cut for 40 s; a tunnel waits 8",
    run=run,
    truths=(
        session("client_closed", "client", True, "client.closed"),
        client_link("network_error", "network", False, "network.path_lost"),
        CLIENT_LEFT,
    ),
    limit_s=75,
    tricky=True,
    one_middlebox="what comes late is late behind every middlebox",
)
