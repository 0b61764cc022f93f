"""The workspace's container is killed and another one takes its place, on the same data."""

import signal

from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CLIENT_LEFT, QUICK, agent_link, session


def run(stage: Stage) -> None:
    stage.new_container("agent1")
    stack = stage.start(server=QUICK)
    stage.shell()
    stage.fault()
    stage.agent.send_signal(signal.SIGKILL)
    stage.agent.exit_code()
    stage.new_container("agent1")
    stack.start_agent()


SCENARIO = Scenario(
    name="agent-container-replaced",
    summary="the agent gets SIGKILL, and comes back in another container",
    run=run,
    truths=(
        session("process_crashed", "agent", False, "agent.container_replaced"),
        agent_link("process_crashed", "agent", False, "agent.container_replaced"),
        CLIENT_LEFT,
    ),
    limit_s=40,
    tricky=True,
    one_middlebox="a process ends alike behind every middlebox",
)
