"""The workspace is out of memory and stands still while the kernel looks for pages.

No machine that others use can be brought to that on purpose: what the kernel says of the pressure is
a file of the laboratory's, and the agent is stopped for as long.
"""

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, agent_link


def run(stage: Stage) -> None:
    stage.set_pressure("agent1", "memory", 0.0)
    stage.start(server=QUICK)
    session = stage.shell()
    stage.fault()
    stage.set_pressure("agent1", "memory", 87.5)
    stage.wait(3)
    with faults.stop_process(stage.lab, stage.agent):
        stage.wait(25)
    stage.set_pressure("agent1", "memory", 0.0)
    session.echoes("still-here", 30)


SCENARIO = Scenario(
    name="agent-thrashing",
    summary="the kernel says that memory is short, and the agent stands still for 22 s",
    run=run,
    truths=(agent_link("peer_unresponsive", "agent", False, "agent.memory_thrashing"),),
    limit_s=60,
    tricky=True,
    needs=frozenset({"pressure"}),
    one_middlebox="a process ends alike behind every middlebox",
)
