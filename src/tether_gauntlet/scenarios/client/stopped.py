"""Ctrl-Z, or a debugger: the client stands still for 20 s and goes on."""

import signal

from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage


def run(stage: Stage) -> None:
    stage.start()
    session = stage.shell()
    stage.fault()
    session.signal(signal.SIGSTOP)
    stage.wait(20)
    session.signal(signal.SIGCONT)
    session.echoes("back-again")


SCENARIO = Scenario(
    name="client-stopped",
    summary="ssh and its ProxyCommand are stopped for 20 s",
    run=run,
    truths=(),
    limit_s=25,
)
