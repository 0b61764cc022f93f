"""The server stands still; its kernel goes on acknowledging."""

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, agent_link, client_link


def run(stage: Stage) -> None:
    stack = stage.start(server=QUICK)
    session = stage.shell()
    stage.fault()
    with faults.stop_process(stage.lab, stack.server):
        stage.wait(25)
    session.echoes("still-here", 30)


SCENARIO = Scenario(
    name="server-frozen",
    summary="the server is stopped for 25 s",
    run=run,
    truths=(
        agent_link("control_plane_lost", "server", False, "server.unresponsive", "server.frozen"),
        client_link("control_plane_lost", "server", False, "server.unresponsive", "server.frozen"),
    ),
    limit_s=60,
)
