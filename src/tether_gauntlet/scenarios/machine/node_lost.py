"""A node with three workspaces drops off the network: one incident, not three."""

from tether_gauntlet.lab import faults
from tether_gauntlet.lab.topology import internet
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, agent_link


def run(stage: Stage) -> None:
    stack = stage.start(server=QUICK)
    for number in (2, 3):
        stack.create_workspace(f"dev{number}", host=f"agent{number}")
        stack.start_agent(f"dev{number}", host=f"agent{number}")
    stage.shell()
    stage.fault()
    with faults.blackhole(stage.lab, "gw"):
        stage.wait(25)


SCENARIO = Scenario(
    name="node-lost",
    summary="the router of three agents drops everything for 25 s",
    run=run,
    truths=(
        agent_link(
            "network_error",
            "network",
            False,
            "agent.node_lost",
            "agent.unreachable",
            "network.path_lost",
            rows=3,
            one_incident=True,
        ),
    ),
    limit_s=70,
    topology=internet(agents=3),
)
