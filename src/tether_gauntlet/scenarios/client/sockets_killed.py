"""An administrator closes the client's sockets (`ss -K`)."""

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, client_link


def run(stage: Stage) -> None:
    stage.start(server=QUICK)
    session = stage.shell()
    stage.fault()
    faults.kill_sockets(stage.lab, "client", peer=stage.entry)
    session.type("echo anybody there")
    stage.wait(8)
    session.echoes("still-here", 30)


SCENARIO = Scenario(
    name="client-sockets-killed",
    summary="the client's established sockets are destroyed",
    run=run,
    truths=(client_link("network_error", "client", False, "client.socket_destroyed"),),
    limit_s=40,
    needs=frozenset({"kill-socket"}),
)
