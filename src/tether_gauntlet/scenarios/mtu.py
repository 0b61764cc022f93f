"""Small packets pass, large ones vanish, and nobody says so."""

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import C2S, QUICK, session


def run(stage: Stage) -> None:
    stage.start(server=(*QUICK, "--resume-s", "8"))
    session = stage.shell()
    stage.fault()
    broken = faults.mtu_black_hole(stage.lab, "client")
    session.type("head -c 300000 /dev/urandom | base64")
    stage.wait(30)
    broken.undo()


SCENARIO = Scenario(
    name="mtu-black-hole",
    summary="packets over 1200 bytes vanish; a tunnel waits 8",
    run=run,
    truths=(session("network_error", "network", False, "network.mtu_black_hole"),),
    limit_s=75,
    tolerates=frozenset({C2S}),
)
