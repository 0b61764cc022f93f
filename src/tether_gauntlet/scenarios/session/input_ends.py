"""A pipeline is through: its input ends, and so does the command."""

from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CLIENT_LEFT, session


def run(stage: Stage) -> None:
    stage.start()
    session = stage.shell(command="cat")
    stage.fault()
    session.ssh.end_input()
    if session.twin is not None:
        session.twin.end_input()


SCENARIO = Scenario(
    name="input-ends",
    summary="the input of a remote `cat` ends",
    run=run,
    truths=(
        session("graceful", "client", True, "session.exit", exit_code=0),
        CLIENT_LEFT,
    ),
    limit_s=15,
    one_middlebox="what ssh says passes through every middlebox alike",
)
