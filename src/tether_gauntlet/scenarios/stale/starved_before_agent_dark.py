"""The agent got no CPU for some seconds, and then enough; later its network is cut.

Truth: the network was cut. The agent has been heard since it had a CPU again.
"""

import time

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import AGENT_DARK, CALM, CLIENT_LEFT, agent_link, session


def run(stage: Stage) -> None:
    stage.start(server=(*CALM, "--resume-s", "8"), cgroup=True)
    before = stage.shell()
    busy = [stage.spin(stage.group) for _ in range(4)]
    with faults.starve(stage.lab, stage.group, share=0.001, period_us=1_000_000):
        time.sleep(10)
    for program in busy:
        program.kill()
    stage.calm(15, before)
    stage.fault()
    with faults.blackhole(stage.lab, "agent1"):
        before.type("echo anybody there")
        stage.wait(45)


SCENARIO = Scenario(
    name="starved-before-agent-dark",
    summary="the agent starves for 10 s; 15 s after that its network is cut for 45 s",
    run=run,
    truths=(
        session("network_error", "network", False, *AGENT_DARK),
        agent_link("network_error", "network", False, *AGENT_DARK),
        CLIENT_LEFT,
    ),
    limit_s=70,
    tricky=True,
    needs=frozenset({"cgroup-v1-cpu"}),
    one_middlebox="what is stale is so behind every middlebox",
)
