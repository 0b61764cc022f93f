"""The workspace was short of memory for some seconds, and got over it; later its network is cut.

Truth: the network was cut. The agent has been heard since there was memory again.
"""

import time

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import AGENT_DARK, CALM, CLIENT_LEFT, agent_link, session


def run(stage: Stage) -> None:
    stage.set_pressure("agent1", "memory", 0.0)
    stage.start(server=(*CALM, "--resume-s", "8"))
    before = stage.shell()
    stage.set_pressure("agent1", "memory", 87.5)
    time.sleep(8)
    stage.set_pressure("agent1", "memory", 0.0)
    stage.calm(15, before)
    stage.fault()
    with faults.blackhole(stage.lab, "agent1"):
        before.type("echo anybody there")
        stage.wait(45)


SCENARIO = Scenario(
    name="pressure-before-agent-dark",
    summary="memory is short for 8 s; 15 s after that the agent's network is cut for 45 s",
    run=run,
    truths=(
        session("network_error", "network", False, *AGENT_DARK),
        agent_link("network_error", "network", False, *AGENT_DARK),
        CLIENT_LEFT,
    ),
    limit_s=70,
    tricky=True,
    needs=frozenset({"pressure"}),
    one_middlebox="what is stale is so behind every middlebox",
)
