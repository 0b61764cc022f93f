"""A port forward without a session is ended by its owner."""

import signal

from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import A2C, CLIENT_LEFT, session

FETCH = (
    "for n in 1 2 3 4 5 6 7 8 9; do ss -Htln 'sport = 9999' | grep -q . && exit; sleep 0.2; done"
)


def run(stage: Stage) -> None:
    stack = stage.start()
    before = stack.ids()
    forward = stack.start_ssh(options=("-N", "-L", "127.0.0.1:9999:127.0.0.1:22"))
    stack.wait_row(before, lambda row: row["connect_type"] == A2C and row["connected_at"])
    stage.lab["client"].run("sh", "-c", FETCH)
    stage.fault()
    forward.send_signal(signal.SIGTERM)


SCENARIO = Scenario(
    name="forward-ended",
    summary="`ssh -N -L` gets SIGTERM",
    run=run,
    truths=(
        session("client_closed", "client", True, "client.closed"),
        CLIENT_LEFT,
    ),
    limit_s=15,
    one_middlebox="what ssh says passes through every middlebox alike",
)
