"""Between client and internet everything is dropped, for longer than a tunnel waits."""

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, client_link, session


def run(stage: Stage) -> None:
    stage.start(server=(*QUICK, "--resume-s", "8"))
    session = stage.shell()
    stage.fault()
    broken = faults.blackhole(stage.lab, "client")
    session.type("echo anybody there")
    stage.wait(25)
    broken.undo()


SCENARIO = Scenario(
    name="path-lost",
    summary="the client's router drops everything for 25 s; a tunnel waits 8",
    run=run,
    truths=(
        session("network_error", "network", False, "network.path_lost", "client.unreachable"),
        client_link("network_error", "network", False, "network.path_lost", "client.unreachable"),
    ),
    limit_s=60,
)
