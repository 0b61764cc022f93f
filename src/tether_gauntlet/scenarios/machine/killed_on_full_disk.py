"""Somebody kills the agent with -9 while its disk is full: that was no want of room."""

import signal

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CLIENT_LEFT, QUICK, agent_link, session


def run(stage: Stage) -> None:
    disk = stage.lab["agent1"].directory / "agent-dev"
    stage.lab["agent1"].small_disk(disk, size=1 << 20)
    stack = stage.start(server=QUICK)
    stage.shell()
    full = faults.fill_disk(stage.lab, "agent1", disk)
    stage.fault()
    stage.agent.send_signal(signal.SIGKILL)
    stage.agent.exit_code()
    full.undo()
    stack.start_agent()


SCENARIO = Scenario(
    name="agent-killed-on-full-disk",
    summary="the agent gets SIGKILL with its disk full, and is started again when there is room",
    run=run,
    truths=(
        session("process_crashed", "agent", False, "agent.killed"),
        agent_link("process_crashed", "agent", False, "agent.killed"),
        CLIENT_LEFT,
    ),
    limit_s=40,
    tricky=True,
    needs=frozenset({"tmpfs"}),
    one_middlebox="a process ends alike behind every middlebox",
)
