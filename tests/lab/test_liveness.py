"""Who is dead and who is only slow, over a real network, with the stock ssh and the shipped settings.

One laboratory, one client for each fault, all at once: noticing takes its half minute only once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime

import pytest

from tests.lab.conftest import build
from tests.support.deadline import DEADLINE_S
from tether_gauntlet.lab import faults
from tether_gauntlet.lab.building import Lab
from tether_gauntlet.lab.fault import Fault
from tether_gauntlet.lab.program import Program
from tether_gauntlet.lab.shell import wait_for
from tether_gauntlet.lab.stack import LabStack, Row
from tether_gauntlet.lab.topology import internet

pytestmark = pytest.mark.lab

NOTICED_WITHIN_S = 30.0
SCHEDULING_S = 2.0
"""On top, for a machine that has other things to do."""


def noticed_at(row: Row) -> float | None:
    """When the record noticed that the client fell silent, on the wall clock; None: not yet.

    The only place that knows what noticing is: its tunnel is detached, and waits for it.
    """
    when = row["detached_since"]
    return None if when is None else datetime.fromisoformat(when).timestamp()


# -- the trial ---------------------------------------------------------------------------

ECHO = "cat"
TICKS = "while :; do date; sleep 0.5; done"
FLOOD = "while head -c 65536 /dev/zero; do :; done"

CLIENTS = {
    "client": ECHO,
    "client2": TICKS,
    "client3": ECHO,
    "client4": ECHO,
    "client5": FLOOD,
    "client6": FLOOD,
}
"""Which command each of them runs."""


@dataclass
class Trial:
    """Six clients, each with its fault, for as long as it takes to notice those that are cut off."""

    lab: Lab
    stack: LabStack
    sessions: dict[str, Program] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    began: float = 0.0
    after: dict[str, Row] = field(default_factory=dict)
    """Their rows, when everybody had been under their fault for long enough."""
    said: list[bytes] = field(default_factory=list)

    def open(self, client: str, command: str) -> None:
        before = self.stack.ids()
        self.sessions[client] = self.stack.start_ssh(command, host=client, name=client)
        row = self.stack.wait_row(before, lambda row: row["type"] == "ssh")
        self.ids[client] = row["id"]
        if command != ECHO:
            self.sessions[client].wait("its output", self.sessions[client].output)

    def rows(self) -> dict[str, Row]:
        by_id = {row["id"]: row for row in self.stack.connections()}
        return {client: by_id[connection] for client, connection in self.ids.items()}

    def harm(self) -> list[Fault]:
        self.began = time.time()
        return [
            faults.blackhole(self.lab, "client"),
            faults.blackhole(self.lab, "client2"),
            faults.lose(self.lab, "client3", percent=30),
            faults.lose(self.lab, "client4", percent=30),
            faults.throttle(self.lab, "client5", kbit=64),
            faults.stop_process(self.lab, self.sessions["client6"], children=True),
        ]

    def run(self) -> None:
        """Watch until the two that are cut off were noticed, and at least as long as that may take."""
        deadline = time.monotonic() + NOTICED_WITHIN_S + SCHEDULING_S
        while time.monotonic() < deadline:
            self.say(b"%d\n" % len(self.said))
            time.sleep(1)
        self.after = self.rows()

    def say(self, line: bytes) -> None:
        self.said.append(line)
        self.sessions["client3"].write(line)


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    topology = internet(clients=len(CLIENTS), relays=())
    with (
        build(topology, tmp_path_factory.mktemp("lab")) as lab,
        LabStack.whole(lab) as stack,
    ):

        def prepare(client: str) -> None:
            stack.log_in(client)
            stack.configure_ssh(client)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(prepare, [client for client in CLIENTS if client != "client"]))
        made = Trial(lab, stack)
        for client, command in CLIENTS.items():
            made.open(client, command)
        harmed = made.harm()
        made.run()
        for fault in harmed:
            fault.undo()
        yield made
        for session in made.sessions.values():
            session.kill()


@pytest.mark.parametrize("client", ["client", "client2"], ids=["idle", "busy"])
def test_a_client_that_is_cut_off_is_noticed_in_time_and_waited_for(
    trial: Trial, client: str
) -> None:
    row = trial.after[client]
    at = noticed_at(row)
    assert at is not None, row
    assert 10 < at - trial.began < NOTICED_WITHIN_S + SCHEDULING_S
    assert (row["status"], row["disconnected_at"]) == ("ongoing", None)


@pytest.mark.parametrize("client", ["client", "client2"], ids=["idle", "busy"])
def test_the_record_shows_that_it_was_silence(trial: Trial, client: str) -> None:
    events = trial.stack.explain(trial.ids[client])["path_events"]
    (detached,) = [event for event in events if event["event"] == "detached"]
    assert detached["how"] in ("silent", "timed_out"), events


ALIVE = {
    "client3": "30 % loss, busy",
    "client4": "30 % loss, idle",
    "client5": "64 kbit/s",
    "client6": "stopped",
}


@pytest.mark.parametrize("client", list(ALIVE), ids=list(ALIVE.values()))
def test_a_client_that_is_only_slow_is_not_called_dead(trial: Trial, client: str) -> None:
    row = trial.after[client]
    assert (row["status"], noticed_at(row)) == ("ongoing", None), row
    assert trial.sessions[client].returncode is None


def test_under_loss_everything_arrives_once_and_in_order(trial: Trial) -> None:
    busy, idle = trial.sessions["client3"], trial.sessions["client4"]
    idle.write(b"still here\n")
    busy.wait_output(trial.said[-1])
    assert busy.output() == b"".join(trial.said)
    assert idle.wait_output(b"still here\n") == b"still here\n"


@pytest.mark.parametrize("client", ["client5", "client6"], ids=["64 kbit/s", "stopped"])
def test_a_slow_client_goes_on_where_it_was(trial: Trial, client: str) -> None:
    session = trial.sessions[client]
    size = session.out.stat().st_size
    wait_for("more output", lambda: session.out.stat().st_size > size, 60)


def test_a_client_that_comes_back_goes_on_where_it_was(trial: Trial) -> None:
    session = trial.sessions["client"]
    session.write(b"back again\n")
    session.wait_output(b"back again\n", 30)
    wait_for("resumed", lambda: noticed_at(trial.rows()["client"]) is None, DEADLINE_S)


def test_no_end_was_unexpected(trial: Trial) -> None:
    rows = trial.stack.connections(expected="false")
    assert [row["id"] for row in rows if row["connect_type"] == "agent_to_client"] == []
