"""The client's cable is pulled for longer than its tunnel may wait."""

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, client_link, session


def run(stage: Stage) -> None:
    stage.start(server=(*QUICK, "--resume-s", "8"))
    session = stage.shell()
    stage.fault()
    broken = faults.link_down(stage.lab, "client")
    session.type("echo anybody there")
    stage.wait(20)
    broken.undo()


SCENARIO = Scenario(
    name="link-down",
    summary="the client's link is down for 20 s; a tunnel waits 8",
    run=run,
    truths=(
        session("network_error", "network", False, "client.link_down"),
        client_link("network_error", "network", False, "client.link_down"),
    ),
    limit_s=60,
)
