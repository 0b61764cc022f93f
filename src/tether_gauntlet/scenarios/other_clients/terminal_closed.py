"""The window of a terminal is closed: ssh gets SIGHUP.

Truth: the user closed it.
"""

import signal

from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CLIENT_LEFT, session


def run(stage: Stage) -> None:
    stage.start()
    closed = stage.shell()
    stage.fault()
    closed.signal(signal.SIGHUP)
    closed.ssh.exit_code(20)


SCENARIO = Scenario(
    name="terminal-closed",
    summary="ssh and its ProxyCommand get SIGHUP",
    run=run,
    truths=(session("client_closed", "client", True, "client.closed"), CLIENT_LEFT),
    limit_s=20,
    one_middlebox="what ssh says passes through every middlebox alike",
)
