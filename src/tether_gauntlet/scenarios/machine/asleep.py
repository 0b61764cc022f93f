"""The workspace's machine is put to sleep, as a cloud does with what is idle; a tunnel waits 8 s."""

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CLIENT_LEFT, QUICK, agent_link, session


def run(stage: Stage) -> None:
    clock = stage.lab["agent1"].directory / "clock"
    clock.write_text("0 0")
    stage.start(
        server=(*QUICK, "--resume-s", "8"), agent_env={"TETHER_CLOCK_SHIFT_FILE": str(clock)}
    )
    session = stage.shell()
    stage.fault()
    asleep = faults.blackhole(stage.lab, "agent1")
    with faults.stop_process(stage.lab, stage.agent):
        session.type("echo anybody there")
        stage.wait(25)
        clock.write_text("25 0")
        asleep.undo()


SCENARIO = Scenario(
    name="agent-asleep",
    summary="the agent's machine sleeps for 25 s; a tunnel waits 8",
    run=run,
    truths=(
        session("peer_unresponsive", "agent", False, "agent.suspended"),
        agent_link("peer_unresponsive", "agent", False, "agent.suspended"),
        CLIENT_LEFT,
    ),
    limit_s=60,
    tricky=True,
)
