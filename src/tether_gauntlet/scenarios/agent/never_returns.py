"""The agent dies and nobody starts it again: a row must not stay open for ever."""

import signal

from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CLIENT_LEFT, QUICK, agent_link, session


def run(stage: Stage) -> None:
    stage.start(server=(*QUICK, "--agent-grace", "8"))
    stage.shell()
    stage.fault()
    stage.agent.send_signal(signal.SIGKILL)
    stage.agent.exit_code()


SCENARIO = Scenario(
    name="agent-never-returns",
    summary="the agent gets SIGKILL and stays away",
    run=run,
    truths=(
        session(
            "process_crashed", "agent", False, "agent.vanished", "agent.killed", "agent.crashed"
        ),
        agent_link(
            "process_crashed", "agent", False, "agent.vanished", "agent.killed", "agent.crashed"
        ),
        CLIENT_LEFT,
    ),
    limit_s=60,
    gone_for_good=True,
    one_middlebox="a process ends alike behind every middlebox",
)
