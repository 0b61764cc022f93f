"""A relay dies; there is another one."""

import signal

from tether_gauntlet.lab.topology import internet
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK


def run(stage: Stage) -> None:
    stack = stage.start(server=(*QUICK, "--no-embedded-relay"), relays=("relay-a", "relay-b"))
    session = stage.shell()
    stage.fault()
    for name in ("relay-a", "relay-b"):
        stack.relays[name].send_signal(signal.SIGKILL)
        stack.relays[name].exit_code()
        session.echoes(f"without-{name}", 30)
        stack.start_relay(name)


SCENARIO = Scenario(
    name="relay-killed-of-two",
    summary="both relays are killed in turn, each with the other one up",
    run=run,
    truths=(),
    limit_s=45,
    topology=internet(agents_reachable=False),
    tolerates=frozenset({"server_to_relay"}),
)
