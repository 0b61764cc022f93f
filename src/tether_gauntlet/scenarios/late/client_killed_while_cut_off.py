"""A client is killed in an outage; its next run tells, when the network is back and the row is over.

Truth: it was killed 2 s into the cut; that its network was cut as well ended nothing. Its tunnel waits
8 s, so the record has to be revised.
"""

import signal

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CLIENT_DIED, QUICK, session


def run(stage: Stage) -> None:
    stage.start(server=(*QUICK, "--resume-s", "8"))
    dead = stage.shell()
    dead.echoes("a-while", 20)
    stage.fault()
    with faults.blackhole(stage.lab, "client"):
        stage.wait(2)
        dead.signal(signal.SIGKILL)
        dead.ssh.exit_code()
        stage.wait(40)
    stage.shell()


SCENARIO = Scenario(
    name="client-killed-while-cut-off",
    summary="the client is killed while its network is cut for 40 s; a tunnel waits 8",
    run=run,
    truths=(session("process_crashed", "client", False, "client.vanished"), CLIENT_DIED),
    limit_s=75,
    tricky=True,
    one_middlebox="what comes late is late behind every middlebox",
)
