"""One of two relays is killed with five tunnels in it; all of them resume through the other.

Truth: nobody was disconnected. A relay died all the same, and an operator has to find that: which, when,
and how many tunnels moved.
"""

import signal
from collections.abc import Iterable

from tether_gauntlet.lab.topology import internet
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK


def run(stage: Stage) -> None:
    server = (*QUICK, "--no-embedded-relay")
    stack = stage.start(server=server, relays=("relay-a",))
    sessions = [stage.shell() for _ in range(5)]
    stack.start_relay("relay-b")
    stage.fault()
    stack.relays["relay-a"].send_signal(signal.SIGKILL)
    stage.wait(10)
    for session in sessions:
        session.echoes("still-here", 30)


def check(stage: Stage) -> Iterable[str]:
    rows = [row for row in stage.ended() if row["connect_type"] == "server_to_relay"]
    logged = [
        line
        for line in stage.stack.server.events()
        if "relay-a" in str(line.values()) and line.get("level") in ("warning", "error")
    ]
    if not rows and not logged:
        yield "a relay was killed, and the server has no row and no warning of it"


SCENARIO = Scenario(
    name="relay-killed-all-resumed",
    summary="one of two relays gets SIGKILL under five sessions, which all resume",
    run=run,
    truths=(),
    limit_s=40,
    topology=internet(agents_reachable=False),
    tricky=True,
    tolerates=frozenset({"server_to_relay"}),
    check=check,
    one_middlebox="a process ends alike behind every middlebox",
)
