"""Somebody kills the agent with -9; its exit looks like an OOM kill, and is none."""

import signal

from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CLIENT_LEFT, QUICK, agent_link, session


def run(stage: Stage) -> None:
    stack = stage.start(server=QUICK)
    stage.shell()
    stage.fault()
    stage.agent.send_signal(signal.SIGKILL)
    stage.agent.exit_code()
    stack.start_agent()


SCENARIO = Scenario(
    name="agent-killed",
    summary="the agent gets SIGKILL and is started again",
    run=run,
    truths=(
        session("process_crashed", "agent", False, "agent.killed", "agent.crashed"),
        agent_link("process_crashed", "agent", False, "agent.killed", "agent.crashed"),
        CLIENT_LEFT,
    ),
    limit_s=40,
    tricky=True,
)
