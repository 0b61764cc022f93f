"""The lid is closed for a minute. A silence is noticed within 30 s; then policy lets a tunnel wait 8."""

import signal

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, client_link, session


def run(stage: Stage) -> None:
    stage.start(server=(*QUICK, "--resume-s", "8"))
    clock = stage.lab["client"].directory / "clock"
    clock.write_text("0 0")
    session = stage.shell(env={"TETHER_CLOCK_SHIFT_FILE": str(clock)})
    stage.fault()
    asleep = faults.blackhole(stage.lab, "client")
    session.signal(signal.SIGSTOP)
    stage.wait(60)
    clock.write_text("60 0")
    asleep.undo()
    session.signal(signal.SIGCONT)


SCENARIO = Scenario(
    name="client-asleep",
    summary="the laptop sleeps for longer than the tunnel waits",
    run=run,
    truths=(
        session("client_suspended", "client", True, "client.suspended"),
        client_link("client_suspended", "client", True, "client.suspended"),
    ),
    limit_s=90,
    tricky=True,
)
