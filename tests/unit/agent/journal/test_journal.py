"""The journal: what was acknowledged to its caller is still there after anything short of a fire."""

from __future__ import annotations

import asyncio
import resource
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.typing import EventDict

from tests.support.clock import HandClock
from tests.support.deadline import DEADLINE_S
from tests.support.host.small_disk import fill, small_disk
from tether.agent.journal import journal as journal_module
from tether.agent.journal.journal import Journal
from tether.agent.journal.previous_run import JournaledRun, RunMarker, post_mortem
from tether.agent.journal.storage import JournalFailed, JournalFile
from tether.protocol.messages.reports import Ended, Opened, ReportItem, SessionRecord

pytestmark = pytest.mark.anyio

RUN = RunMarker(instance_id="run-1", boot_id="boot-1", pid=11, started_at=100.0)
LATER = RunMarker(instance_id="run-3", boot_id="boot-1", pid=33, started_at=300.0)
NEXT = RunMarker(instance_id="run-2", boot_id="boot-1", pid=22, started_at=200.0)


def opened(name: str) -> Opened:
    return Opened(connection_id=name, at=1.0)


def session(name: str) -> SessionRecord:
    return SessionRecord(connection_id=name, session_id="s", session_type="ssh", started_at=2.0)


def ended(name: str) -> Ended:
    return Ended(connection_id=name, at=3.0, facts=[])


def nothing_owed(previous: JournaledRun) -> Sequence[ReportItem]:
    return ()


async def start(path: Path, run: RunMarker = RUN) -> tuple[Journal, JournaledRun | None]:
    return await Journal.open(path, run, clock=HandClock(), owed=nothing_owed)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def logged() -> Iterator[list[EventDict]]:
    """What is logged while the test runs."""
    with structlog.testing.capture_logs() as lines:
        # Loggers that were made before this fixture would keep their processors.
        journal_module._log = structlog.get_logger(component="journal")
        yield lines


def copy(path: Path, to: Path) -> Path:
    """The files as a machine that loses power now would leave them."""
    to.mkdir()
    for file in path.parent.glob(f"{path.name}*"):
        shutil.copy(file, to / file.name)
    return to / path.name


async def test_items_come_back_in_the_order_they_were_appended(path: Path) -> None:
    journal, _ = await start(path)
    items: list[ReportItem] = [opened("a"), session("a"), ended("a"), opened("b")]
    numbers = [await journal.append(item) for item in items]
    assert numbers == [1, 2, 3, 4]
    assert await journal.pending(0, 10) == list(zip(numbers, items, strict=True))
    assert await journal.pending(1, 2) == [(2, items[1]), (3, items[2])]
    await journal.close()


async def test_nobody_else_can_read_the_file(path: Path) -> None:
    journal, _ = await start(path)
    await journal.append(opened("a"))
    modes = {f.name: stat.S_IMODE(f.stat().st_mode) for f in path.parent.glob("journal.db*")}
    assert modes == {"journal.db": 0o600, "journal.db-wal": 0o600, "journal.db-shm": 0o600}
    await journal.close()


async def test_what_was_appended_survives_the_loss_of_power(path: Path, tmp_path: Path) -> None:
    journal, _ = await start(path)
    for name in "abc":
        await journal.append(opened(name))
    await journal.append(ended("b"))
    after = copy(path, tmp_path / "later")
    await journal.close()

    found, previous = await start(after, NEXT)
    assert previous == JournaledRun(
        marker=RUN, last_alive_at=100.0, stopped_cleanly_at=None, open_connections=("a", "c")
    )
    assert [item for _, item in await found.pending(0, 10) or []] == [
        *(opened(name) for name in "abc"),
        ended("b"),
    ]
    assert found.journal_id == journal.journal_id
    await found.close()


async def test_what_was_appended_survives_a_killed_process(path: Path) -> None:
    program = textwrap.dedent(
        """
        import asyncio, itertools, pathlib, sys
        from tether.agent.journal.journal import Journal
        from tether.agent.journal.previous_run import RunMarker
        from tether.net.clock import SystemClock
        from tether.protocol.messages.reports import Opened

        async def main():
            run = RunMarker(instance_id="run-1", boot_id="boot-1", pid=11, started_at=100.0)
            journal, _ = await Journal.open(
                pathlib.Path(sys.argv[1]), run, clock=SystemClock(), owed=lambda previous: ())
            for n in itertools.count(1):
                assert await journal.append(Opened(connection_id=str(n), at=float(n))) == n
                print(n, flush=True)

        asyncio.run(main())
        """
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        said = [process.stdout.readline() for _ in range(30)]
    finally:
        process.kill()
        said += process.stdout.readlines()
        process.wait(DEADLINE_S)
    promised = int(said[-1]) if said[-1].endswith(b"\n") else int(said[-2])

    journal, previous = await start(path, NEXT)
    kept = [int(item.connection_id) for _, item in await journal.pending(0, 100_000) or []]
    assert kept == list(range(1, len(kept) + 1))
    assert promised <= len(kept) <= promised + 1
    assert previous is not None
    assert [int(c) for c in previous.open_connections] == kept
    await journal.close()


async def test_a_number_is_never_given_twice(path: Path) -> None:
    journal, _ = await start(path)
    for name in "abc":
        await journal.append(opened(name))
    await journal.acknowledge(3)
    await journal.stopped_cleanly()
    await journal.close()
    assert count_items(path) == 0

    again, _ = await start(path, NEXT)
    assert again.last_seq == 3
    assert await again.append(ended("a")) == 4
    await again.close()


def count_items(path: Path) -> int:
    db = sqlite3.connect(path)
    try:
        return int(db.execute("SELECT count(*) FROM items").fetchone()[0])
    finally:
        db.close()


async def test_concurrent_appends_share_commits(path: Path) -> None:
    journal, _ = await start(path)
    statements: list[str] = []
    await journal._in_thread(lambda: journal._file._db.set_trace_callback(statements.append))
    numbers = await asyncio.gather(*(journal.append(opened(str(n))) for n in range(600)))
    assert numbers == list(range(1, 601))
    assert statements.count("COMMIT") == 2
    await journal.close()


async def test_an_acknowledged_item_is_forgotten_and_a_waiting_one_is_not(path: Path) -> None:
    journal, _ = await start(path)
    for item in (opened("a"), ended("a"), opened("b"), ended("b")):
        await journal.append(item)
    assert await journal.unsettled() == {"a", "b"}
    await journal.acknowledge(2)
    assert await journal.unsettled() == {"b"}
    assert await journal.pending(0, 10) == [(3, opened("b")), (4, ended("b"))]
    await journal.close()


async def test_a_connection_is_open_from_its_opening_to_its_end(path: Path) -> None:
    journal, _ = await start(path)
    await journal.append(opened("a"))
    journal.mark_open("control")
    await journal.append(ended("b"))
    await journal.acknowledge(3)
    assert await journal.unsettled() == {"a", "control"}
    await journal.append(ended("control"))
    await journal.acknowledge(4)
    assert await journal.unsettled() == {"a"}
    await journal.close()


async def test_a_clean_stop_is_remembered(path: Path) -> None:
    journal, first = await start(path)
    await journal.append(opened("a"))
    await journal.append(ended("a"))
    await journal.stopped_cleanly()
    await journal.close()
    again, previous = await start(path, NEXT)
    assert first is None
    assert previous is not None
    assert (previous.died, previous.open_connections) == (False, ())
    await again.close()


async def test_the_heartbeat_tells_when_a_run_was_last_alive(path: Path, tmp_path: Path) -> None:
    clock = HandClock()
    journal, _ = await Journal.open(path, RUN, clock=clock, owed=nothing_owed)
    clock.mono = 50.0
    await journal.alive()
    found, previous = await start(copy(path, tmp_path / "later"), NEXT)
    assert previous is not None
    assert previous.last_alive_at == clock.now().wall
    await found.close()
    await journal.close()


async def test_what_a_dead_run_owes_is_written_with_the_next_ones_marker(
    path: Path, tmp_path: Path
) -> None:
    journal, _ = await start(path)
    await journal.append(opened("a"))
    await journal.acknowledge(1)
    dead = copy(path, tmp_path / "dead")
    await journal.close()

    def owed(previous: JournaledRun) -> Sequence[ReportItem]:
        return post_mortem(previous, boot_id="boot-1", at=9.0)

    second, previous = await Journal.open(dead, NEXT, clock=HandClock(), owed=owed)
    (item,) = await second.pending(0, 10) or []
    assert item == (2, post_mortem(previous, boot_id="boot-1", at=9.0)[0])
    deader = copy(dead, tmp_path / "deader")
    await second.close()

    third, previous = await start(deader, LATER)
    assert previous is not None
    assert (previous.marker, previous.open_connections) == (NEXT, ())
    await third.close()


# -- a disk that refuses -----------------------------------------------------------------------


@pytest.fixture
def broken_disk(path: Path) -> Iterator[Any]:
    """Writes fail with a real error of the kernel while the limit is on (EFBIG, SQLITE_IOERR)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def switch(broken: bool) -> None:
        limit = path.with_name("journal.db-wal").stat().st_size if broken else soft
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))

    yield switch
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def until_written(journal: Journal, items: int) -> None:
    async with asyncio.timeout(DEADLINE_S):
        await journal.grown_beyond(journal.journal_id, items - 1)


async def test_what_the_disk_refuses_waits_and_is_written_in_order(
    path: Path, broken_disk: Any, logged: list[EventDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "RETRY_S", 0.05)
    journal, _ = await start(path)
    await journal.append(opened("a"))
    broken_disk(True)
    try:
        refused = [await journal.append(item) for item in (session("a"), ended("a"))]
        assert refused == [None, None]
        assert await journal.unsettled() == {"a"}
    finally:
        broken_disk(False)
    await until_written(journal, 3)
    assert await journal.pending(0, 10) == [(1, opened("a")), (2, session("a")), (3, ended("a"))]
    assert [(line["log_level"], line["event"]) for line in logged] == [
        ("error", "journal cannot be written"),
        ("info", "journal can be written again"),
    ]
    assert await journal.append(opened("b")) == 4
    await journal.close()


async def test_memory_is_bounded_and_an_end_is_never_dropped(
    path: Path, broken_disk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "RETRY_S", 0.05)
    monkeypatch.setattr(journal_module, "KEPT_IN_MEMORY", 4)
    journal, _ = await start(path)
    broken_disk(True)
    try:
        for item in (
            *(opened("a"), session("a1"), session("a2"), ended("a")),
            *(opened("b"), ended("b"), ended("c"), ended("d"), ended("e")),
        ):
            await journal.append(item)
    finally:
        broken_disk(False)
    await until_written(journal, 5)
    assert [item for _, item in await journal.pending(0, 10) or []] == [
        *(ended(name) for name in "abcde"),
    ]
    await journal.close()


async def test_a_full_disk_does_not_stop_the_journal_and_is_told(
    tmp_path: Path, logged: list[EventDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "RETRY_S", 0.05)
    with small_disk(tmp_path / "small") as disk:
        journal, _ = await start(disk / "journal.db")
        told: list[str] = []
        journal.when_full(told.append)
        await journal.append(opened("a"))
        assert told == []
        ballast = fill(disk)
        assert await journal.append(ended("a")) is None
        later: list[str] = []
        journal.when_full(later.append)
        assert (told, later) == ([str(disk / "journal.db")], [str(disk / "journal.db")])
        ballast.unlink()
        await until_written(journal, 2)
        assert await journal.pending(0, 10) == [(1, opened("a")), (2, ended("a"))]
        assert "full" in logged[0]["error"]
        await journal.close()


# -- a file that is damaged ----------------------------------------------------------------------


async def test_a_damaged_file_is_moved_aside_at_the_start(
    path: Path, logged: list[EventDict]
) -> None:
    journal, _ = await start(path)
    await journal.append(opened("a"))
    await journal.close()
    path.write_bytes(b"this is no database" * 1000)
    again, previous = await start(path, NEXT)
    assert (previous, again.last_seq) == (None, 0)
    assert again.journal_id != journal.journal_id
    assert path.with_name("journal.db.corrupt-1").read_bytes().startswith(b"this is no database")
    assert [line["event"] for line in logged] == ["journal was damaged"]
    assert await again.append(opened("b")) == 1
    await again.close()


async def test_a_second_damaged_file_does_not_replace_the_first(path: Path) -> None:
    for number in (1, 2):
        path.write_bytes(b"junk %d" % number * 1000)
        journal, _ = await start(path)
        await journal.close()
    kept = [path.with_name(f"journal.db.corrupt-{n}").read_bytes()[:6] for n in (1, 2)]
    assert kept == [b"junk 1", b"junk 2"]


async def test_a_foreign_database_is_moved_aside(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE recipes (name TEXT)")
    db.execute("PRAGMA user_version = 1")
    db.close()
    journal, _ = await start(path)
    assert await journal.append(opened("a")) == 1
    await journal.close()


async def test_a_file_that_is_damaged_under_us_is_replaced_and_the_run_goes_on(
    path: Path, logged: list[EventDict]
) -> None:
    journal, _ = await start(path)
    await journal.append(opened("a"))
    await journal.append(opened("b"))
    first = journal.journal_id
    await journal._in_thread(lambda: journal._file._db.execute("DROP TABLE items"))
    assert await journal.append(ended("b")) == 1
    assert journal.journal_id != first
    assert await journal.pending(0, 10) == [(1, ended("b"))]
    assert await journal.unsettled() == {"a", "b"}
    assert [line["event"] for line in logged] == ["journal was damaged"]
    await journal.close()
    again, previous = await start(path, NEXT)
    assert previous is not None
    assert (previous.marker, previous.open_connections) == (RUN, ("a",))
    await again.close()


async def test_an_unreadable_item_is_left_out_and_makes_a_gap(path: Path) -> None:
    journal, _ = await start(path)
    for name in "abc":
        await journal.append(opened(name))
    await journal._in_thread(
        lambda: journal._file._db.execute("UPDATE items SET body = x'ff' WHERE seq = 2")
    )
    assert await journal.pending(0, 10) == [(1, opened("a")), (3, opened("c"))]
    await journal.close()


async def test_a_newer_versions_file_is_left_alone(path: Path) -> None:
    journal, _ = await start(path)
    await journal.close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    before = path.read_bytes()
    with pytest.raises(JournalFailed, match="newer version"):
        await start(path, NEXT)
    assert path.read_bytes() == before


async def test_a_place_where_no_file_can_be_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(JournalFailed, match="cannot be used: No such file or directory"):
        await start(tmp_path / "missing" / "journal.db")


async def test_many_runs_do_not_pile_up(path: Path) -> None:
    for number in range(30):
        file = JournalFile(path)
        file.begin(
            RunMarker(instance_id=str(number), boot_id="", pid=1, started_at=0.0), nothing_owed
        )
        file.close()
    db = sqlite3.connect(path)
    assert db.execute("SELECT count(*), max(instance_id) FROM runs").fetchone()[0] == 20
    db.close()


def test_killing_needs_no_signal_handler() -> None:
    assert signal.getsignal(signal.SIGXFSZ) is signal.SIG_IGN, "the broken disk needs EFBIG"
