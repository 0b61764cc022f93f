"""The agent gets a thousandth of a core: late, not lost."""

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import C2S, QUICK, agent_link


def run(stage: Stage) -> None:
    stage.start(server=QUICK, cgroup=True)
    session = stage.shell()
    busy = [stage.spin(stage.group) for _ in range(4)]
    stage.fault()
    with faults.starve(stage.lab, stage.group, share=0.001, period_us=1_000_000):
        stage.wait(40)
    for program in busy:
        program.kill()
    session.echoes("still-here", 40)


SCENARIO = Scenario(
    name="agent-starved",
    summary="the agent's CPU quota is 0.1 % for 40 s, and its neighbours are busy",
    run=run,
    truths=(agent_link("peer_unresponsive", "agent", False, "agent.starved"),),
    limit_s=90,
    tricky=True,
    needs=frozenset({"cgroup-v1-cpu"}),
    tolerates=frozenset({C2S}),
    one_middlebox="a process ends alike behind every middlebox",
)
