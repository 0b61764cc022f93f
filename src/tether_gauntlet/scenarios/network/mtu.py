"""Small packets pass, large ones vanish, and nobody says so: a session has to find a way through.

Until somebody mends the path, nothing larger arrives whatever the ends do; what they send is theirs to
choose, and a session that can go on has not ended.
"""

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK


def run(stage: Stage) -> None:
    stage.start(server=(*QUICK, "--resume-s", "8"))
    session = stage.shell()
    stage.fault()
    broken = faults.mtu_black_hole(stage.lab, "client")
    session.type("head -c 300000 /dev/urandom | base64")
    session.echoes("down-again", 30)
    session.type(": " + "x" * 3000)
    session.echoes("up-again", 15)
    stage.wait(50)
    broken.undo()


SCENARIO = Scenario(
    name="mtu-black-hole",
    summary="packets over 1200 bytes vanish for 50 s; a tunnel waits 8",
    run=run,
    truths=(),
    limit_s=60,
    plain_only="the narrow link is the client's own, whatever stands behind it",
)
