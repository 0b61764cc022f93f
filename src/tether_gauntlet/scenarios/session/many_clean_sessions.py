"""Two hundred people do what they came for: nobody needs to look."""

from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import client_link, session

COUNT = 200


def run(stage: Stage) -> None:
    stack = stage.start()
    stage.fault()
    for _ in range(COUNT):
        stack.ssh("true")


SCENARIO = Scenario(
    name="many-clean-sessions",
    summary="200 commands, one after another",
    run=run,
    truths=(
        session("graceful", "client", True, "session.exit", rows=COUNT, exit_code=0),
        client_link("client_closed", "client", True, "client.closed", rows=COUNT),
    ),
    limit_s=180,
    plain_only="it is about how many they are",
)
