"""A time server sets the client's and the agent's clock an hour ahead."""

from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage


def run(stage: Stage) -> None:
    files = []
    for host in ("client", "agent1"):
        clock = stage.lab[host].directory / "clock"
        clock.write_text("0 0")
        files.append(clock)
    stage.start(agent_env={"TETHER_CLOCK_SHIFT_FILE": str(files[1])})
    session = stage.shell(env={"TETHER_CLOCK_SHIFT_FILE": str(files[0])})
    stage.fault()
    for clock in files:
        clock.write_text("0 3600")
    stage.wait(10)
    session.echoes("still-here")


SCENARIO = Scenario(
    name="clock-stepped",
    summary="the wall clocks jump by an hour",
    run=run,
    truths=(),
    limit_s=15,
    plain_only="a clock is no connection",
)
