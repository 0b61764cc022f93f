"""The disk of the workspace's agent is full to its last byte; sessions go on, and new ones begin."""

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, session


def run(stage: Stage) -> None:
    disk = stage.lab["agent1"].directory / "agent-dev"
    stage.lab["agent1"].small_disk(disk, size=1 << 20)
    stage.start(server=QUICK)
    held = stage.shell()
    stage.fault()
    with faults.fill_disk(stage.lab, "agent1", disk):
        held.type("true")
        stage.stack.ssh("exit 3", check=False)
        stage.wait(10)  # what the agent has to report waits until there is room
        held.echoes("still-here", 30)


SCENARIO = Scenario(
    name="disk-full",
    summary="the agent's disk is full for 10 s, while one session lives on and another comes and goes",
    run=run,
    truths=(session("graceful", "client", True, "session.exit", exit_code=3),),
    limit_s=40,
    needs=frozenset({"tmpfs"}),
    plain_only="a disk is no connection",
)
