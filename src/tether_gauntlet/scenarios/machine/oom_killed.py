"""The kernel kills the agent for want of memory; its exit looks like a kill -9, and is none."""

from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CLIENT_LEFT, QUICK, agent_link, session


def run(stage: Stage) -> None:
    stack = stage.start(server=QUICK, cgroup=True)
    stage.shell()
    stage.group.limit_memory(400 << 20)
    stage.fault()
    crowd = stage.crowd_out(stage.group, stage.agent)
    stage.agent.exit_code(30)
    crowd.kill()
    stack.start_agent()


SCENARIO = Scenario(
    name="agent-oom-killed",
    summary="a neighbour in its control group takes the agent's memory",
    run=run,
    truths=(
        session("resource_exhausted", "agent", False, "agent.oom_killed"),
        agent_link("resource_exhausted", "agent", False, "agent.oom_killed"),
        CLIENT_LEFT,
    ),
    limit_s=60,
    tricky=True,
    needs=frozenset({"cgroup-v1-memory"}),
    one_middlebox="a process ends alike behind every middlebox",
)
