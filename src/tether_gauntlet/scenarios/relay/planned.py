"""A relay is restarted in order: tunnels are warned and move first."""

from tether_gauntlet.lab.topology import internet
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK


def run(stage: Stage) -> None:
    stack = stage.start(server=(*QUICK, "--no-embedded-relay"), relays=("relay-a", "relay-b"))
    session = stage.shell()
    stage.fault()
    stack.relays["relay-a"].stop()
    session.echoes("still-here", 30)
    stack.start_relay("relay-a")
    stack.relays["relay-b"].stop()
    session.echoes("and-again", 30)


SCENARIO = Scenario(
    name="relay-planned-restart",
    summary="one of two relays gets SIGTERM",
    run=run,
    truths=(),
    limit_s=30,
    topology=internet(agents_reachable=False),
    tolerates=frozenset({"server_to_relay"}),
)
