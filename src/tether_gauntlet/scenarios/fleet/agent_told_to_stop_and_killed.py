"""A platform tells the agent to stop, and kills the container a second later, before its goodbye is out.

Truth: it had been told to stop, and was killed while it did so. It did not crash by itself, and whoever
reads the record has to learn that somebody stopped it.
"""

import signal

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CLIENT_LEFT, QUICK, agent_link, session


def run(stage: Stage) -> None:
    stack = stage.start(server=QUICK, agent=("--stop-script", str(slow(stage))))
    stage.shell()
    stage.fault()
    with faults.blackhole(stage.lab, "agent1"):  # no goodbye gets through
        stage.agent.send_signal(signal.SIGTERM)
        stage.wait(1)
        stage.agent.send_signal(signal.SIGKILL)
        stage.agent.exit_code()
    stack.start_agent()


def slow(stage: Stage) -> object:
    """A stop script that takes longer than the agent is left."""
    script = stage.lab["agent1"].directory / "stop.sh"
    script.write_text("#!/bin/sh\nsleep 60\n")
    script.chmod(0o755)
    return script


SCENARIO = Scenario(
    name="agent-told-to-stop-and-killed",
    summary="the agent gets SIGTERM, and SIGKILL a second later, and is started again",
    run=run,
    truths=(
        session("server_shutdown", "agent", True, "agent.shutdown"),
        agent_link("server_shutdown", "agent", True, "agent.shutdown"),
        CLIENT_LEFT,
    ),
    limit_s=40,
    tricky=True,
    one_middlebox="a process ends alike behind every middlebox",
)
