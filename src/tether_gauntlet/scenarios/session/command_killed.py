"""Somebody kills the remote command: ssh exits 255, as if the line had been cut."""

from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CLIENT_LEFT, session


def run(stage: Stage) -> None:
    stage.start()
    session = stage.shell()
    stage.fault()
    session.type("kill -KILL $$")


SCENARIO = Scenario(
    name="command-killed",
    summary="the remote shell is ended by SIGKILL",
    run=run,
    truths=(
        session("graceful", "client", True, "session.signal", exit_signal="KILL"),
        CLIENT_LEFT,
    ),
    limit_s=15,
    tricky=True,
    one_middlebox="what ssh says passes through every middlebox alike",
)
