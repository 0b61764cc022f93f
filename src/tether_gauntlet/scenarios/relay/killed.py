"""The only relay dies with ten tunnels in it: one incident, not ten."""

import signal

from tether_gauntlet.lab.topology import internet
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, client_link, session


def run(stage: Stage) -> None:
    server = (*QUICK, "--no-embedded-relay", "--resume-s", "6")
    stack = stage.start(server=server, relays=("relay-a",))
    for _ in range(10):
        stage.shell()
    stage.fault()
    stack.relays["relay-a"].send_signal(signal.SIGKILL)


SCENARIO = Scenario(
    name="relay-killed",
    summary="the only relay gets SIGKILL under ten sessions; a tunnel waits 6 s",
    run=run,
    truths=(
        session(
            "process_crashed",
            "server",
            False,
            "relay.crashed",
            "relay.killed",
            rows=10,
            one_incident=True,
        ),
        client_link("client_closed", "client", True, "client.closed", rows=10),
    ),
    limit_s=60,
    topology=internet(agents_reachable=False),
    tricky=True,
    tolerates=frozenset({"server_to_relay"}),
)
