"""The agent crashes."""

import signal

from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CLIENT_LEFT, QUICK, agent_link, session


def run(stage: Stage) -> None:
    stack = stage.start(server=QUICK)
    stage.shell()
    stage.fault()
    stage.agent.send_signal(signal.SIGSEGV)
    stage.agent.exit_code()
    stack.start_agent()


SCENARIO = Scenario(
    name="agent-segfault",
    summary="the agent gets SIGSEGV and is started again",
    run=run,
    truths=(
        session("process_crashed", "agent", False, "agent.crashed"),
        agent_link("process_crashed", "agent", False, "agent.crashed"),
        CLIENT_LEFT,
    ),
    limit_s=40,
    one_middlebox="a process ends alike behind every middlebox",
)
