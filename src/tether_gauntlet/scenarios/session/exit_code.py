"""A command that fails has failed; its connection has not."""

from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CLIENT_LEFT, session


def run(stage: Stage) -> None:
    stage.start()
    session = stage.shell()
    stage.fault()
    session.type("exit 3")


SCENARIO = Scenario(
    name="exit-code",
    summary="the shell exits with code 3",
    run=run,
    truths=(
        session("graceful", "client", True, "session.exit", exit_code=3),
        CLIENT_LEFT,
    ),
    limit_s=15,
    one_middlebox="what ssh says passes through every middlebox alike",
)
