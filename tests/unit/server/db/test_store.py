"""The database: durable, private, one writer, and honest when it does not work."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.support.server.database import put_empty
from tether.server.db.store import Store, StoreUnavailable
from tether.server.db.tables.accounts import users
from tether.server.db.tables.connections import connections, evidence
from tether.server.db.tables.server_runs import health

pytestmark = pytest.mark.anyio

CLOSED = {
    "connection_id": "c1",
    "status": "closed",
    "connect_type": "agent_to_client",
    "type": "ssh",
    "created_at": 1.0,
    "disconnected_at": 2.0,
    "disconnect_reason": "graceful",
    "disconnect_expected": True,
    "disconnect_initiator": "client",
    "disconnect_cause": "session.exit",
    "disconnect_basis": "declared",
    "coarse_reason": "graceful",
    "rule": "session-exit",
}


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(put_empty(tmp_path / "server.db"))
    yield opened
    await opened.close()


async def _insert_probe(store: Store, number: int) -> None:
    async def work(connection: AsyncConnection) -> None:
        await connection.execute(insert(health).values(id=number, checked_at=1.5))

    await store.write(work)


async def _probes(store: Store) -> list[int]:
    async def work(connection: AsyncConnection) -> list[int]:
        return list((await connection.scalars(select(health.c.id).order_by(health.c.id))).all())

    return await store.read(work)


async def test_what_is_written_is_read_and_survives_a_reopening(tmp_path: Path) -> None:
    first = await Store.open(tmp_path / "server.db")
    await _insert_probe(first, 7)
    assert await _probes(first) == [7]
    await first.close()
    second = await Store.open(f"sqlite:///{tmp_path}/server.db")
    assert await _probes(second) == [7]
    await second.close()


async def test_a_write_that_fails_leaves_nothing_behind(store: Store) -> None:
    async def work(connection: AsyncConnection) -> None:
        await connection.execute(insert(health).values(id=1, checked_at=1.0))
        raise LookupError("changed my mind")

    with pytest.raises(LookupError, match="changed my mind"):
        await store.write(work)
    assert await _probes(store) == []


async def test_a_write_whose_caller_is_cancelled_is_written_before_the_caller_leaves(
    store: Store,
) -> None:
    entered, may_end = asyncio.Event(), asyncio.Event()

    async def work(connection: AsyncConnection) -> None:
        await connection.execute(insert(health).values(id=1, checked_at=1.0))
        entered.set()
        await may_end.wait()

    task = asyncio.get_running_loop().create_task(store.write(work))
    await entered.wait()
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    await _insert_probe(store, 2)
    assert await _probes(store) == [1, 2]


async def test_there_is_one_writer_at_a_time(store: Store) -> None:
    steps: list[str] = []

    async def work(name: str, connection: AsyncConnection) -> None:
        steps.append(f"{name} begins")
        await connection.execute(text("SELECT 1"))
        steps.append(f"{name} ends")

    await asyncio.gather(
        store.write(lambda connection: work("a", connection)),
        store.write(lambda connection: work("b", connection)),
    )
    assert steps == ["a begins", "a ends", "b begins", "b ends"]


async def test_a_reader_sees_one_snapshot_while_a_writer_commits(store: Store) -> None:
    async def twice(connection: AsyncConnection) -> tuple[int, int]:
        count = text("SELECT count(*) FROM health")
        before = await connection.scalar(count)
        await _insert_probe(store, 1)
        return before, await connection.scalar(count)

    assert await store.read(twice) == (0, 0)
    assert await _probes(store) == [1]


async def test_a_reader_cannot_write(store: Store) -> None:
    async def work(connection: AsyncConnection) -> None:
        await connection.execute(insert(health).values(id=1, checked_at=1.0))

    with pytest.raises(StoreUnavailable):
        await store.read(work)
    assert await _probes(store) == []


async def test_every_commit_is_synced_to_the_disk(store: Store) -> None:
    async def settings(connection: AsyncConnection) -> tuple[object, ...]:
        asked = ("journal_mode", "synchronous", "foreign_keys")
        return tuple(
            [(await connection.execute(text(f"PRAGMA {name}"))).scalar() for name in asked]
        )

    assert await store.write(settings) == ("wal", 2, 1)  # 2 is FULL


async def test_nobody_else_can_read_the_files(tmp_path: Path) -> None:
    loose = tmp_path / "server.db"
    loose.touch(mode=0o644)
    store = await Store.open(loose)
    await _insert_probe(store, 1)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    await store.close()
    assert modes == {"server.db": 0o600, "server.db-wal": 0o600, "server.db-shm": 0o600}


async def test_a_full_disk_is_one_sentence(store: Store) -> None:
    async def fill(connection: AsyncConnection) -> None:
        await connection.execute(text("PRAGMA max_page_count = 1"))  # no page more than there is
        await connection.execute(
            insert(users).values(name="x" * 1_000_000, role="member", created_at=1.0)
        )

    with pytest.raises(StoreUnavailable) as refused:
        await store.write(fill)
    assert str(refused.value) == (
        "the disk that holds the server's database is full; free some space"
    )


async def test_a_database_that_another_program_locked_is_one_sentence(
    store: Store, tmp_path: Path
) -> None:
    await store.write(lambda connection: connection.execute(text("PRAGMA busy_timeout = 0")))
    other = sqlite3.connect(tmp_path / "server.db", isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable) as refused:
            await store.probe(1.0)
        other.execute("ROLLBACK")
    finally:
        other.close()
    assert str(refused.value) == "the server's database is locked by another program; try again"
    await store.probe(2.0)


async def test_a_file_that_is_no_database_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "server.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(StoreUnavailable) as refused:
        await Store.open(tmp_path / "server.db")
    assert str(refused.value) == (
        "the server's database file is no database; restore it from a backup"
    )


async def test_a_missing_directory_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "server.db"
    with pytest.raises(StoreUnavailable) as refused:
        await Store.open(path)
    assert str(refused.value) == (
        f"the database {path} cannot be opened for writing: No such file or directory"
    )


async def test_a_database_of_another_kind_is_refused() -> None:
    with pytest.raises(StoreUnavailable) as refused:
        await Store.open("postgresql://bob:secret@db/tether")
    assert str(refused.value) == (
        "the database postgresql://bob:***@db/tether cannot be used: this version keeps its data in"
        " an SQLite file (sqlite:///PATH)"
    )


async def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "server.db")
    await store.close()
    with pytest.raises(StoreUnavailable, match="shutting down"):
        await store.probe(1.0)
    with pytest.raises(StoreUnavailable, match="shutting down"):
        await _probes(store)


async def test_a_bug_of_ours_is_not_called_an_outage(store: Store) -> None:
    with pytest.raises(Exception, match="no such table") as wrong:
        await store.read(lambda connection: connection.execute(text("SELECT * FROM no_such")))
    assert not isinstance(wrong.value, StoreUnavailable)


async def test_a_closed_connection_without_a_cause_cannot_be_stored(store: Store) -> None:
    async def put(row: dict[str, object]) -> None:
        await store.write(lambda connection: connection.execute(insert(connections).values(row)))

    await put(CLOSED)
    for missing in ("disconnect_reason", "disconnect_cause", "disconnect_expected", "rule"):
        with pytest.raises(IntegrityError, match="closed_is_attributed"):
            await put({**CLOSED, "connection_id": missing, missing: None})


@pytest.mark.parametrize(
    ("column", "word"),
    [
        ("status", "gone"),
        ("connect_type", "agent_to_agent"),
        ("type", "telnet"),
        ("connection_method", "carrier_pigeon"),
        ("disconnect_reason", "bad_luck"),
        ("disconnect_initiator", "nobody"),
        ("disconnect_basis", "guessed"),
        ("coarse_reason", "client_suspended"),
    ],
)
async def test_a_word_that_is_not_in_the_vocabulary_cannot_be_stored(
    store: Store, column: str, word: str
) -> None:
    row: dict[str, object] = {**CLOSED, column: word}
    if column == "status":  # an open connection must not look like an ended one
        row |= {"disconnected_at": None, "disconnect_reason": None}
    with pytest.raises(IntegrityError, match=f"{column}_word"):
        await store.write(lambda connection: connection.execute(insert(connections).values(row)))


async def test_evidence_keeps_its_json(store: Store) -> None:
    fact = {"kind": "stream_ended", "vantage": "agent", "at": 1.5, "values": {"peer": "relay — ü"}}

    async def put(connection: AsyncConnection) -> None:
        await connection.execute(insert(connections).values(CLOSED))
        await connection.execute(
            insert(evidence).values(
                connection_id="c1", reporter="agent", received_at=2.0, facts=[fact], symptoms=[]
            )
        )

    async def fetch(connection: AsyncConnection) -> tuple[object, object]:
        row = (await connection.execute(select(evidence.c.facts, evidence.c.symptoms))).one()
        return row[0], row[1]

    await store.write(put)
    assert await store.read(fetch) == ([fact], [])


async def test_evidence_of_nothing_cannot_be_stored(store: Store) -> None:
    row = {
        "connection_id": "nobody",
        "reporter": "agent",
        "received_at": 1.0,
        "facts": [],
        "symptoms": [],
    }
    with pytest.raises(IntegrityError, match="FOREIGN KEY"):
        await store.write(lambda connection: connection.execute(insert(evidence).values(row)))


@pytest.mark.parametrize("reads", [False, True], ids=["write", "read"])
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("step", range(6))
async def test_whoever_is_cancelled_at_any_step_leaves_no_transaction_open(
    store: Store, tmp_path: Path, step: int, times: int, reads: bool
) -> None:
    """At the beginning (0), before each statement, at the commit (4), and after all of it (5)."""

    def cancel(here: int) -> None:
        if here == step:
            for _ in range(times):
                asyncio.get_running_loop().call_soon(task.cancel)

    async def work(connection: AsyncConnection) -> None:
        for number in (1, 2, 3):
            cancel(number)
            if reads:
                await connection.scalar(select(health.c.id))
            else:
                await connection.execute(insert(health).values(id=100 + number, checked_at=1.5))
        cancel(4)

    async def run() -> None:
        await (store.read if reads else store.write)(work)
        cancel(5)
        await asyncio.sleep(0)

    task = asyncio.ensure_future(run())
    cancel(0)
    done, _ = await asyncio.wait({task})
    assert done == {task}
    assert task.cancelled()
    with sqlite3.connect(tmp_path / "server.db", timeout=0.0, isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")  # nobody holds a lock
        other.execute("ROLLBACK")
    await _insert_probe(store, 7)
    assert set(await _probes(store)) - {7} in (set(), {101, 102, 103})
