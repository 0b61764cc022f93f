"""An agent stands still for 30 s, less than anybody's patience; somebody lists the workspaces.

Truth: nobody was disconnected. The agent has not been heard for half a minute, and the list may not say
that it was seen just now.
"""

from collections.abc import Iterable
from datetime import UTC, datetime

from tether_gauntlet.lab import faults
from tether_gauntlet.lab.stack import SERVER_PORT
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage

LATE_S = 20.0
"""A server that pings every 15 s cannot have heard an agent of 30 s of silence later than this."""

ages: list[float] = []
"""How long ago the agent had been seen, as the list said in the midst of its silence."""


def run(stage: Stage) -> None:
    stage.start()
    session = stage.shell()
    stage.fault()
    ages.clear()
    with faults.stop_process(stage.lab, stage.agent):
        stage.wait(30)
        (listed,) = stage.lab["server"].get_json(
            SERVER_PORT, "/api/v1/workspaces", token=stage.stack.admin_token
        )
        seen = datetime.fromisoformat(listed["agent"]["last_seen_at"])
        ages.append((datetime.now(UTC) - seen).total_seconds())
    session.echoes("still-here", 30)


def check(stage: Stage) -> Iterable[str]:
    if not ages or ages[0] < LATE_S / 2:
        yield f"an agent that was silent for 30 s was listed as seen {ages} s ago"


SCENARIO = Scenario(
    name="frozen-agent-listed",
    summary="an agent is stopped for 30 s, and the list of workspaces is looked at",
    run=run,
    truths=(),
    limit_s=40,
    check=check,
    one_middlebox="a process ends alike behind every middlebox",
)
