"""The lid is closed for 25 s: the session is there when it opens."""

import signal

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import C2S


def run(stage: Stage) -> None:
    clock = stage.lab["client"].directory / "clock"
    clock.write_text("0 0")
    stage.start()
    session = stage.shell(env={"TETHER_CLOCK_SHIFT_FILE": str(clock)})
    stage.fault()
    asleep = faults.blackhole(stage.lab, "client")
    session.signal(signal.SIGSTOP)
    stage.wait(25)
    clock.write_text("25 0")
    asleep.undo()
    session.signal(signal.SIGCONT)
    session.echoes("good-morning", 30)


SCENARIO = Scenario(
    name="client-asleep-briefly",
    summary="the laptop sleeps for less than the tunnel waits",
    run=run,
    truths=(),
    limit_s=35,
    tolerates=frozenset({C2S}),
)
