"""The only relay can no longer be reached by anybody; it lives."""

from tether_gauntlet.lab import faults
from tether_gauntlet.lab.topology import internet
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CLIENT_LEFT, QUICK, session


def run(stage: Stage) -> None:
    server = (*QUICK, "--no-embedded-relay", "--resume-s", "6")
    stage.start(server=server, relays=("relay-a",))
    session = stage.shell()
    stage.fault()
    with faults.blackhole(stage.lab, "relay-a"):
        session.type("echo anybody there")
        stage.wait(40)


SCENARIO = Scenario(
    name="relay-cut-off",
    summary="packets to and from the only relay vanish for 40 s; a tunnel waits 6",
    run=run,
    truths=(
        session("network_error", "network", False, "relay.unreachable"),
        CLIENT_LEFT,
    ),
    limit_s=70,
    topology=internet(agents_reachable=False),
    tricky=True,
)
