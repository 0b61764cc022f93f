"""Only ssh is killed; the program that carries its bytes lives to tell."""

import signal

from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CLIENT_LEFT, session


def run(stage: Stage) -> None:
    stage.start()
    session = stage.shell()
    stage.fault()
    session.signal(signal.SIGKILL, everything=False)


SCENARIO = Scenario(
    name="ssh-killed",
    summary="ssh alone gets SIGKILL",
    run=run,
    truths=(
        session("process_crashed", "client", False, "client.ssh_killed"),
        CLIENT_LEFT,
    ),
    limit_s=20,
    tricky=True,
    one_middlebox="a process ends alike behind every middlebox",
)
