"""The only relay stands still; its kernel goes on acknowledging."""

from tether_gauntlet.lab import faults
from tether_gauntlet.lab.topology import internet
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CLIENT_LEFT, QUICK, session


def run(stage: Stage) -> None:
    server = (*QUICK, "--no-embedded-relay", "--resume-s", "6")
    stack = stage.start(server=server, relays=("relay-a",))
    session = stage.shell()
    stage.fault()
    with faults.stop_process(stage.lab, stack.relays["relay-a"]):
        session.type("echo anybody there")
        stage.wait(40)


SCENARIO = Scenario(
    name="relay-frozen",
    summary="the only relay is stopped for 40 s; a tunnel waits 6",
    run=run,
    truths=(
        session("peer_unresponsive", "server", False, "relay.unresponsive"),
        CLIENT_LEFT,
    ),
    limit_s=70,
    topology=internet(agents_reachable=False),
    tricky=True,
)
