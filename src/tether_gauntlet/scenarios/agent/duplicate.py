"""Somebody starts a second agent with the same token."""

from tether_gauntlet.lab.topology import internet
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, agent_link


def run(stage: Stage) -> None:
    stack = stage.start(server=QUICK)
    stage.shell()
    first = stage.agent
    stage.fault()
    stack.start_agent("dev", host="agent2")
    stack.agents["first"] = first


SCENARIO = Scenario(
    name="duplicate-agent",
    summary="a second agent takes the workspace over",
    run=run,
    truths=(agent_link("superseded", "server", False, "agent.superseded", "agent.duplicate"),),
    limit_s=30,
    topology=internet(agents=2),
    one_middlebox="a process ends alike behind every middlebox",
)
