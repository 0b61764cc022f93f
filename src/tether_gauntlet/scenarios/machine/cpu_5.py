"""Five percent of a core is little, and enough."""

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK


def run(stage: Stage) -> None:
    stage.start(server=QUICK, cgroup=True)
    session = stage.shell()
    stage.fault()
    with faults.starve(stage.lab, stage.group, share=0.05):
        stage.wait(30)
    session.echoes("still-here", 40)


SCENARIO = Scenario(
    name="cpu-quota-5",
    summary="the agent's CPU quota is 5 % for 30 s",
    run=run,
    truths=(),
    limit_s=40,
    needs=frozenset({"cgroup-v1-cpu"}),
    plain_only="nothing of ours stands still",
)
