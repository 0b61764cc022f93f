"""The server stands still with the only way of a tunnel in its relay; a tunnel waits 6 s."""

from tether_gauntlet.lab import faults
from tether_gauntlet.lab.topology import internet
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, agent_link, client_link, session


def run(stage: Stage) -> None:
    stack = stage.start(server=(*QUICK, "--resume-s", "6"))
    session = stage.shell()
    stage.fault()
    with faults.stop_process(stage.lab, stack.server):
        session.type("echo anybody there")
        stage.wait(30)


SCENARIO = Scenario(
    name="embedded-relay-frozen",
    summary="the server is stopped for 30 s, and nobody has a way around the relay in it",
    run=run,
    truths=(
        session("peer_unresponsive", "server", False, "relay.unresponsive"),
        agent_link("control_plane_lost", "server", False, "server.unresponsive", "server.frozen"),
        client_link("control_plane_lost", "server", False, "server.unresponsive", "server.frozen"),
    ),
    limit_s=60,
    topology=internet(agents_reachable=False),
    tricky=True,
)
