"""Only the agent cannot reach the server; its people still reach it.

Behind a middlebox, tunnels go through that as well: nothing tells the server from the network to it.
"""

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import ANY, Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, agent_link


def run(stage: Stage) -> None:
    stage.start(server=QUICK)
    session = stage.shell()
    stage.fault()
    with faults.blackhole(stage.lab, "agent1", peer=stage.entry):
        stage.wait(20)
    session.echoes("still-here", 30)


SCENARIO = Scenario(
    name="server-partition",
    summary="agent and server cannot reach each other for 20 s",
    run=run,
    truths=(
        agent_link(
            "control_plane_lost", "network", False, "server.unreachable", "network.partition"
        ),
    ),
    limit_s=60,
    tricky=True,
    behind={
        ANY: (
            agent_link("network_error", "network", False, "network.path_lost", "agent.unreachable"),
        )
    },
)
