"""The workspace's host loses its link for half a minute."""

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, agent_link


def run(stage: Stage) -> None:
    stage.start(server=QUICK)
    session = stage.shell()
    stage.fault()
    broken = faults.link_down(stage.lab, "agent1")
    session.type("echo anybody there")
    stage.wait(25)
    broken.undo()
    session.echoes("still-here", 40)


SCENARIO = Scenario(
    name="agent-link-down",
    summary="the agent's link is down for 25 s",
    run=run,
    truths=(agent_link("network_error", "network", False, "agent.link_down"),),
    limit_s=60,
)
