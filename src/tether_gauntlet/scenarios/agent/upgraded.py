"""The workspace's agent is replaced by another build of it, without being told to stop."""

import signal

from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CLIENT_LEFT, QUICK, agent_link, session


def run(stage: Stage) -> None:
    stack = stage.start(server=QUICK)
    newer = stage.new_build("99.0.0")
    stage.shell()
    stage.fault()
    stage.agent.send_signal(signal.SIGKILL)
    stage.agent.exit_code()
    stack.start_agent(env=newer)


SCENARIO = Scenario(
    name="agent-upgraded",
    summary="the agent gets SIGKILL, and another version is started in its place",
    run=run,
    truths=(
        session("server_shutdown", "agent", True, "agent.upgraded"),
        agent_link("server_shutdown", "agent", True, "agent.upgraded"),
        CLIENT_LEFT,
    ),
    limit_s=40,
    tricky=True,
    one_middlebox="a process ends alike behind every middlebox",
)
