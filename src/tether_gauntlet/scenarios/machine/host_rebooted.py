"""The workspace's host reboots."""

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
    stage.new_boot_id("agent1")
    stack.start_agent()


SCENARIO = Scenario(
    name="host-rebooted",
    summary="the agent dies, and comes back under another boot id",
    run=run,
    truths=(
        session("process_crashed", "agent", False, "agent.host_rebooted"),
        agent_link("process_crashed", "agent", False, "agent.host_rebooted"),
        CLIENT_LEFT,
    ),
    limit_s=40,
    one_middlebox="a process ends alike behind every middlebox",
)
