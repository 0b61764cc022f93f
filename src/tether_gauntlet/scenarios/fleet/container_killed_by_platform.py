"""A platform stops a container whose PID 1 ignores SIGTERM, kills it after 3 s, and starts another one.

Truth: the agent was killed, without having been asked: nothing in the container heard of the SIGTERM.
Another container has taken its place since. Nobody who is left saw the kill, so that its replacement,
without notice, is as true.
"""

import signal

from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CLIENT_LEFT, QUICK, agent_link, session


def run(stage: Stage) -> None:
    stage.new_container("agent1")
    stack = stage.start(server=QUICK)
    init = stage.lab["agent1"].start("init", ["sh", "-c", "trap '' TERM; sleep 600 & wait"])
    stage.shell()
    stage.fault()
    init.send_signal(signal.SIGTERM)
    stage.wait(3)
    init.kill()
    stage.agent.send_signal(signal.SIGKILL)
    stage.agent.exit_code()
    stage.new_container("agent1")
    stack.start_agent()


SCENARIO = Scenario(
    name="container-killed-by-platform",
    summary="a container that ignores SIGTERM is killed after 3 s, and another takes its place",
    run=run,
    truths=(
        session("process_crashed", "agent", False, "agent.killed", "agent.container_replaced"),
        agent_link("process_crashed", "agent", False, "agent.killed", "agent.container_replaced"),
        CLIENT_LEFT,
    ),
    limit_s=40,
    tricky=True,
    one_middlebox="a process ends alike behind every middlebox",
)
