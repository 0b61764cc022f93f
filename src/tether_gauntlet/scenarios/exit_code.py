"""A command that fails has failed; its connection has not."""

from tether_gauntlet.scenario import Scenario, Truth
from tether_gauntlet.stage import Stage


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
        Truth(
            connect_type="agent_to_client",
            reason="graceful",
            initiator="client",
            expected=True,
            causes=frozenset({"session.exit"}),
            exit_code=3,
        ),
    ),
    tolerates=frozenset({"client_to_server"}),
    limit_s=15,
)
