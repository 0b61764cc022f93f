"""The flight recorder and what the next start makes of it, up to processes that really die."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.clock import EPOCH, HandClock
from tests.support.deadline import DEADLINE_S
from tests.support.host.cgroups import control_group
from tests.support.host.small_disk import fill, small_disk
from tether.attribution import evidence as ev
from tether.attribution.vocabulary import Party, Vantage
from tether.net.clock import SystemClock
from tether.net.host.cgroup import Cgroup, CgroupReading
from tether.net.host.identity import HostIdentity
from tether.net.host.vital_signs import VitalSample, VitalSigns
from tether.net.postmortem.exit_note import ExitNote, leave_note, note_of, read_note
from tether.net.postmortem.flight_recorder import (
    FLIGHT_FILE,
    Flight,
    FlightRecorder,
    read_flight,
    write_flight,
)
from tether.net.postmortem.last_flight import LastFlight, examine, take_over
from tether.net.signals import Received

HERE = HostIdentity("boot-1", "c" * 64, "26")
FLIGHT = Flight(
    instance_id="run-1",
    pid=77,
    started_at=EPOCH,
    alive_at=EPOCH + 900,
    version="1",
    host=HERE,
    armed=True,
)
BARE = ev.PreviousRunDied(
    vantage=Vantage.AGENT,
    at=EPOCH + 1000,
    party=Party.AGENT,
    host_rebooted=False,
    last_alive_at=EPOCH + 900,
)
NOTE = ExitNote(pid=77, at=EPOCH + 901)


def told(last: LastFlight, version: str = "1") -> tuple[ev.Evidence, ...]:
    return last.facts(party=Party.AGENT, at=EPOCH + 1000, version=version)


@pytest.mark.parametrize(
    ("last", "death"),
    [
        (LastFlight(flight=FLIGHT, now=HERE), replace(BARE, signal=9)),
        (LastFlight(flight=replace(FLIGHT, armed=False), now=HERE), BARE),
        (LastFlight(flight=FLIGHT, now=HERE, crash_signal=11), replace(BARE, signal=11)),
        (
            LastFlight(flight=FLIGHT, now=HERE, crash_signal=6, note=replace(NOTE, signal=6, core=True)),
            replace(BARE, signal=6, core=True),
        ),
        (
            LastFlight(flight=FLIGHT, now=HERE, note=replace(NOTE, exit_status=3)),
            replace(BARE, exit_status=3),
        ),
        (
            LastFlight(flight=FLIGHT, now=HERE, oom_rise=1, oom_named=True),
            replace(BARE, signal=9, oom_kills=1, oom_named=True),
        ),
        (
            LastFlight(flight=FLIGHT, now=HostIdentity("boot-2", "c" * 64, "31")),
            replace(BARE, host_rebooted=True),
        ),
        (
            LastFlight(flight=FLIGHT, now=HostIdentity("boot-1", "d" * 64, "9000")),
            replace(BARE, container_changed=True),
        ),
        (
            LastFlight(flight=FLIGHT, now=HostIdentity("boot-2", "d" * 64, "31")),
            replace(BARE, container_changed=True),
        ),
        (
            LastFlight(flight=replace(FLIGHT, disk_full=True), now=HERE),
            replace(BARE, signal=9, disk_full=True),
        ),
    ],
    ids=[
        "without a word: SIGKILL, by elimination",
        "without a word, and without handlers: nothing is known",
        "the crash handlers saw it",
        "the parent saw it, and a core",
        "it exited",
        "the kernel named it",
        "the machine was booted again: no signal is known",
        "another container: no signal is known",
        "another container on another machine is no reboot",
        "its disk was full",
    ],
)  # fmt: skip
def test_what_is_found_becomes_one_fact(last: LastFlight, death: ev.PreviousRunDied) -> None:
    assert told(last) == (death,)


def test_another_version_is_told() -> None:
    assert told(LastFlight(flight=FLIGHT, now=HERE), "2") == (
        replace(BARE, signal=9, upgraded=True),
    )


def test_a_run_that_was_told_to_stop_and_then_killed_says_who_told_it() -> None:
    flight = replace(FLIGHT, signal=15, sender="pid 1 uid 0")
    assert told(LastFlight(flight=flight, now=HERE)) == (
        ev.SignalReceived(
            vantage=Vantage.AGENT,
            at=EPOCH + 900,
            party=Party.AGENT,
            signal=15,
            sender="pid 1 uid 0",
        ),
        replace(BARE, signal=9, sender="pid 1 uid 0"),
    )


def test_a_run_that_an_exception_ended_says_which() -> None:
    flight = replace(FLIGHT, ended="KeyError: 'x'")
    assert told(LastFlight(flight=flight, now=HERE)) == (
        ev.InternalFailure(
            vantage=Vantage.AGENT, at=EPOCH + 1000, party=Party.AGENT, what="KeyError: 'x'"
        ),
        replace(BARE, exit_status=1),
    )


# -- files --------------------------------------------------------------------------------------


def test_a_flight_survives_its_file(tmp_path: Path) -> None:
    flight = replace(FLIGHT, memory_group="/g#1", oom_kills=3, vitals=({"at": 1.0, "lag": 2.0},))
    write_flight(tmp_path / "f", flight, durable=True)
    assert read_flight(tmp_path / "f") == flight
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o600


def test_a_flight_is_written_on_a_full_disk_in_place_of_the_last(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small") as disk:
        write_flight(disk / "f", FLIGHT, durable=True)
        fill(disk)
        later = replace(FLIGHT, disk_full=True, ended="clean", vitals=({"at": 1.0},) * 30)
        write_flight(disk / "f", later, durable=True)
        assert read_flight(disk / "f") == later
        assert sorted(path.name for path in disk.iterdir()) == ["ballast", "f"]
        with pytest.raises(OSError, match="No space left"):
            write_flight(disk / "another", FLIGHT, durable=True)


@pytest.mark.parametrize("bytes_", [b"", b"{", b"[]", b'{"format": 2}', b'{"format": 1}'])
def test_a_file_that_is_none_of_ours_is_no_flight(tmp_path: Path, bytes_: bytes) -> None:
    (tmp_path / "f").write_bytes(bytes_)
    assert read_flight(tmp_path / "f") is None


def test_a_note_counts_for_the_process_that_it_names(tmp_path: Path) -> None:
    leave_note(tmp_path, NOTE)
    assert read_note(tmp_path, 77, EPOCH) == NOTE
    assert read_note(tmp_path, 78, EPOCH) is None
    assert read_note(tmp_path, 77, EPOCH + 902) is None, "an earlier process with the same pid"


def test_a_note_for_a_directory_that_is_gone_is_nobodys_trouble(tmp_path: Path) -> None:
    leave_note(tmp_path / "gone", NOTE)
    assert read_note(tmp_path / "gone", 77, EPOCH) is None


def test_what_was_taken_over_is_kept_aside_and_not_taken_over_again(tmp_path: Path) -> None:
    write_flight(tmp_path / FLIGHT_FILE, FLIGHT, durable=False)
    first = take_over(tmp_path, HandClock())
    assert first is not None and first.flight == FLIGHT
    assert take_over(tmp_path, HandClock()) is None
    assert read_flight(tmp_path / f"last-{FLIGHT_FILE}") == FLIGHT


@pytest.mark.parametrize(
    ("kills_now", "victims", "want"),
    [
        (3, None, (0, False)),
        (3, {77: 500.0}, (0, True)),
        (4, None, (1, False)),
        (4, {77: 500.0}, (1, True)),
        (4, {88: 905.0}, (0, False)),
        (4, {88: 5.0}, (1, False)),
        (5, {88: 905.0}, (1, False)),
    ],
    ids=[
        "no rise",
        "the log names the process, which was moved to another group",
        "a rise, and no log to ask",
        "the log names the process",
        "the log names another, and that explains it",
        "the log names another, long before",
        "two kills, one of them explained",
    ],
)
def test_a_rise_of_the_counter_is_laid_to_whom_the_log_names(
    tmp_path: Path, kills_now: int, victims: Mapping[int, float] | None, want: tuple[int, bool]
) -> None:
    group = tmp_path / "group"
    group.mkdir()
    (group / "memory.events").write_text(f"oom_kill {kills_now}\n")
    identity = f"{group}#{group.stat().st_ino}"
    flight = replace(FLIGHT, memory_group=identity, oom_kills=3)
    write_flight(tmp_path / FLIGHT_FILE, flight, durable=False)
    last = examine(tmp_path, HandClock(1000.0), now=lambda: HERE, victims=lambda: victims)
    assert last is not None and (last.oom_rise, last.oom_named) == want


# -- the recorder -------------------------------------------------------------------------------


class Recording:
    def __init__(self, directory: Path) -> None:
        self.path, self.clock = directory / FLIGHT_FILE, HandClock()
        self.vitals = VitalSigns(directory, group=Cgroup(proc=directory / "no-proc"))
        self.recorder = FlightRecorder.begin(
            directory, replace(FLIGHT, oom_kills=0), self.vitals, self.clock
        )

    def sample(self, at: float, kills: int = 0) -> None:
        self.clock.mono = at
        sample = VitalSample(at=EPOCH + at, group=CgroupReading(oom_kills=kills))
        self.vitals.ring.append(sample)
        self.recorder.sampled(sample)

    async def written(self) -> Flight:
        await self.recorder._tasks.wait(DEADLINE_S)
        flight = read_flight(self.path)
        assert flight is not None
        return flight


async def test_a_run_is_on_the_disk_before_it_begins(tmp_path: Path) -> None:
    assert (await Recording(tmp_path).written()).instance_id == "run-1"


async def test_a_sample_is_written_when_it_is_time_or_when_it_is_news(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    recording.sample(1.0)
    assert (await recording.written()).alive_at == EPOCH, "not yet"
    recording.sample(6.0)
    flight = await recording.written()
    assert (flight.alive_at, len(flight.vitals)) == (EPOCH + 6.0, 2)
    recording.sample(7.0, kills=1)
    assert (await recording.written()).alive_at == EPOCH + 7.0, "a kill that was survived"


async def test_the_first_signal_is_on_the_disk_at_once(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    recording.recorder.signalled(Received(signal.SIGTERM, "pid 1 uid 0"))
    recording.recorder.signalled(Received(signal.SIGINT, "pid 2 uid 0"))
    flight = await recording.written()
    assert (flight.signal, flight.sender, flight.ended) == (15, "pid 1 uid 0", "")
    await recording.recorder.ended()
    assert (await recording.written()).ended == "clean"


async def test_a_disk_that_refuses_costs_the_record_and_nothing_else(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    recording.path.unlink()
    recording.path.mkdir()
    recording.sample(6.0)
    await recording.recorder.ended()
    assert recording.path.is_dir()


# -- processes that die --------------------------------------------------------------------------

DIES = """
import faulthandler, os, signal, sys
from pathlib import Path
from tether.attribution.vocabulary import Party
from tether.net.clock import SystemClock
from tether.net.postmortem.black_box import BlackBox
import asyncio

async def main():
    box.begin("run-1")
    print("alive", flush=True)
    await asyncio.sleep(60)

box = BlackBox.open(Path(sys.argv[1]), Party.AGENT, SystemClock())
try:
    asyncio.run(main())
except Exception as wrong:
    box.failed(wrong)
"""

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")


def die(directory: Path, number: int, first: Callable[[], object] = lambda: None) -> int:
    """A program with a black box lives in `directory`, and is ended by a signal after `first`; its wait
    status."""
    child = subprocess.Popen([sys.executable, "-c", DIES, str(directory)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == b"alive\n"
        first()
        os.kill(child.pid, number)
        _, status = os.waitpid(child.pid, 0)
        child.returncode = status
    finally:
        if child.returncode is None:
            child.kill()
            child.wait()
        child.stdout.close()
    return status


@linux
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGQUIT])
def test_a_signal_that_ends_a_process_is_known_to_its_next_start(
    tmp_path: Path, number: signal.Signals
) -> None:
    status = die(tmp_path, number)
    assert os.WTERMSIG(status) == number, "the default action follows the handlers"
    last = examine(tmp_path, SystemClock())
    assert last is not None
    (died,) = (f for f in told(last) if isinstance(f, ev.PreviousRunDied))
    assert (died.signal, died.host_rebooted, died.container_changed) == (number, False, False)
    assert died.oom_kills in (0, None) and not died.oom_named


@linux
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGQUIT])
def test_a_full_disk_keeps_no_last_word_back(tmp_path: Path, number: signal.Signals) -> None:
    with small_disk(tmp_path / "small") as disk:
        die(disk, number, first=lambda: fill(disk))
        last = examine(disk, SystemClock())
    assert last is not None and last.ended_by == (number, None)


@linux
def test_a_parents_note_says_the_same(tmp_path: Path) -> None:
    status = die(tmp_path, signal.SIGKILL)
    flight = read_flight(tmp_path / FLIGHT_FILE)
    assert flight is not None
    leave_note(tmp_path, note_of(flight.pid, status, flight.started_at + 1))
    last = examine(tmp_path, SystemClock())
    assert last is not None and last.note is not None and last.ended_by == (9, None)


@linux
def test_a_program_that_the_kernel_kills_for_memory_is_told_from_one_that_is_killed(
    tmp_path: Path,
) -> None:
    """Its fellow in the group eats; the kernel is asked to take the program first."""
    with control_group("memory", memory__limit_in_bytes=str(64 << 20)) as group:
        eater = (
            f"open({str(group / 'cgroup.procs')!r}, 'w').write('0')\n"
            "import os, sys; input(); eaten = []\n"
            "try:\n"
            "    while True: eaten.append(os.urandom(1 << 20))\n"
            "except MemoryError: pass\n"
        )
        first = (
            "open('/proc/self/oom_score_adj', 'w').write('1000')\n"
            f"open({str(group / 'cgroup.procs')!r}, 'w').write('0')\n"
        )
        child = subprocess.Popen(
            [sys.executable, "-c", first + DIES, str(tmp_path)], stdout=subprocess.PIPE
        )
        other = subprocess.Popen([sys.executable, "-c", eater], stdin=subprocess.PIPE)
        try:
            assert child.stdout is not None and other.stdin is not None
            assert child.stdout.readline() == b"alive\n"
            other.stdin.write(b"\n")
            other.stdin.flush()
            assert child.wait(DEADLINE_S) == -signal.SIGKILL
            last = examine(tmp_path, SystemClock())
        finally:
            for process in (other, child):
                process.kill()
                process.wait(DEADLINE_S)
            child.stdout.close()  # type: ignore[union-attr]
            other.stdin.close()  # type: ignore[union-attr]
    assert last is not None
    (died,) = told(last)
    assert isinstance(died, ev.PreviousRunDied)
    assert died.signal == 9
    assert died.oom_named or (died.oom_kills or 0) > 0


async def test_all_of_it_costs_less_than_a_hundredth_of_a_cpu(tmp_path: Path) -> None:
    """One sample a second and one file in five: the work of a minute, done at once."""
    import time

    recording = Recording(tmp_path)
    vitals = VitalSigns(tmp_path, group=Cgroup())
    before = time.process_time()
    for second in range(60):
        recording.clock.mono = float(second)
        recording.recorder.sampled(vitals.sample(EPOCH + second))
        await asyncio.sleep(0)
    await recording.written()
    assert time.process_time() - before < 0.6
