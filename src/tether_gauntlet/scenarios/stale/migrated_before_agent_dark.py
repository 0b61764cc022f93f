"""The workspace's machine is moved live to another host; later its network is cut.

Truth: the network was cut, for longer than a tunnel waits. The machine had been back for long.
"""

import time

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import AGENT_DARK, CALM, CLIENT_LEFT, agent_link, session


def run(stage: Stage) -> None:
    clock = stage.clock("agent1")
    stage.start(
        server=(*CALM, "--resume-s", "8"), agent_env={"TETHER_CLOCK_SHIFT_FILE": str(clock)}
    )
    before = stage.shell()
    with faults.stop_process(stage.lab, stage.agent):
        time.sleep(6)
        clock.write_text("6 0")
    stage.calm(15, before)
    stage.fault()
    with faults.blackhole(stage.lab, "agent1"):
        before.type("echo anybody there")
        stage.wait(45)


SCENARIO = Scenario(
    name="migrated-before-agent-dark",
    summary="the agent's machine is away for 6 s; 15 s after that its network is cut for 45 s",
    run=run,
    truths=(
        session("network_error", "network", False, *AGENT_DARK),
        agent_link("network_error", "network", False, *AGENT_DARK),
        CLIENT_LEFT,
    ),
    limit_s=70,
    tricky=True,
    one_middlebox="what is stale is so behind every middlebox",
)
