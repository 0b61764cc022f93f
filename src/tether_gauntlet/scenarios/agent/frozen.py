"""The agent stands still; its kernel goes on acknowledging."""

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, agent_link


def run(stage: Stage) -> None:
    stage.start(server=QUICK)
    session = stage.shell()
    stage.fault()
    with faults.stop_process(stage.lab, stage.agent):
        stage.wait(25)
    session.echoes("still-here", 30)


SCENARIO = Scenario(
    name="agent-frozen",
    summary="the agent is stopped for 25 s",
    run=run,
    truths=(agent_link("peer_unresponsive", "agent", False, "agent.unresponsive", "agent.frozen"),),
    limit_s=60,
)
