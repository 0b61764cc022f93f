"""The server's database: one writer, several readers, and one error for "it does not work now".

Law: no queries and no knowledge of tables, but for the row that `probe` writes. All that is written
goes through `write`: one transaction at a time, on disk when it returns (`synchronous=FULL`), so that
a report may be acknowledged after it. A transaction always runs to its end. What SQLite reports of
disks and locks is translated here, by code, once; nobody above sees a driver's exception.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from alembic.util import CommandError
from sqlalchemy import URL, Connection, event, insert, make_url, update
from sqlalchemy.exc import DBAPIError, TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from tether.server.db.migrate import migrate
from tether.server.db.tables.server_runs import health

T = TypeVar("T")

READERS = 4
BUSY_TIMEOUT_MS = 5_000
POOL_TIMEOUT_S = 10.0

_GENERIC = "the server's database does not answer; look at the server's log"
_SENTENCES: Mapping[int, str] = {
    sqlite3.SQLITE_FULL: "the disk that holds the server's database is full; free some space",
    sqlite3.SQLITE_IOERR: "the disk that holds the server's database failed; check the disk",
    sqlite3.SQLITE_BUSY: "the server's database is locked by another program; try again",
    sqlite3.SQLITE_LOCKED: "the server's database is locked; try again",
    sqlite3.SQLITE_READONLY: "the server may not write its database; check the file's permissions",
    sqlite3.SQLITE_PERM: "the server may not open its database; check the file's permissions",
    sqlite3.SQLITE_CANTOPEN: "the server's database cannot be opened; check that the file is there",
    sqlite3.SQLITE_CORRUPT: "the server's database is damaged; restore it from a backup",
    sqlite3.SQLITE_NOTADB: "the server's database file is no database; restore it from a backup",
    sqlite3.SQLITE_NOMEM: "the server ran out of memory; try again",
}
"""Primary result code of SQLite -> the sentence for people. Codes that are not here are our bugs."""


class StoreUnavailable(Exception):
    """The database cannot be used now. The text is one sentence that is safe to show."""


class Store:
    """The one way to the database. Made by `open`; call `close` when done."""

    def __init__(self, writer: AsyncEngine, reader: AsyncEngine) -> None:
        self._writer = writer
        self._reader = reader
        self._lock = asyncio.Lock()
        self._closed = False

    @classmethod
    async def open(cls, where: str | Path) -> Store:
        """Open the database at a path or an `sqlite:` URL, made and migrated where needed.

        Raises:
            StoreUnavailable: it cannot be made, opened or migrated.
        """
        url = _url(where)
        _make_private(Path(url.database or ""))
        with _translated():
            await _bring_up_to_date(url)
        return cls(_engine(url, writes=True), _engine(url, writes=False))

    async def close(self) -> None:
        """Let the transaction that runs finish, then close every connection."""
        async with self._lock:
            self._closed = True
            await self._reader.dispose()
            await self._writer.dispose()

    async def write(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Do `work` in a transaction of its own; it is on disk when this returns.

        An exception out of `work` undoes the transaction and passes through. Whoever is cancelled
        while it runs leaves after it has ended, written or not.

        Raises:
            StoreUnavailable: the database cannot be written now; nothing was changed.
        """
        async with self._lock:
            self._check_open()
            return await _to_its_end(_transaction(self._writer, work))

    async def read(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Do `work` on one consistent snapshot; it cannot write.

        Raises:
            StoreUnavailable: the database cannot be read now.
        """
        self._check_open()
        return await _to_its_end(_transaction(self._reader, work))

    async def probe(self, at: float) -> None:
        """Find out whether a write works now.

        Raises:
            StoreUnavailable: it does not.
        """

        async def touch(connection: AsyncConnection) -> None:
            done = await connection.execute(update(health).values(checked_at=at))
            if done.rowcount == 0:
                await connection.execute(insert(health).values(id=1, checked_at=at))

        await self.write(touch)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("the server is shutting down; try again in a moment")


async def _transaction(engine: AsyncEngine, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    with _translated():
        async with engine.begin() as connection:
            return await work(connection)


async def _to_its_end(transaction: Coroutine[Any, Any, T]) -> T:
    """Await a transaction which nobody's cancellation reaches.

    The driver works in a thread, which goes on where its caller is cancelled: a transaction may be left
    open that no later one gets past.
    """
    running = asyncio.get_running_loop().create_task(transaction, name="store/transaction")
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait({running})
        except asyncio.CancelledError as wrong:
            cancelled = wrong
    if cancelled is not None:
        if not running.cancelled():
            running.exception()  # nobody asks for it any more
        raise cancelled
    return running.result()


def _url(where: str | Path) -> URL:
    if isinstance(where, Path) or "://" not in where:
        return URL.create("sqlite+aiosqlite", database=str(where))
    url = make_url(where)
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        raise StoreUnavailable(
            f"the database {url.render_as_string()} cannot be used: this version keeps its data in"
            " an SQLite file (sqlite:///PATH)"
        )
    return url.set(drivername="sqlite+aiosqlite")


def _make_private(path: Path) -> None:
    """Nobody but the server's own account reads the database; SQLite's side files inherit this."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        path.chmod(0o600)
    except OSError as wrong:
        raise StoreUnavailable(
            f"the database {path} cannot be opened for writing: {wrong.strerror}"
        ) from wrong


async def _bring_up_to_date(url: URL) -> None:
    """Migrate in one transaction, with foreign keys off: SQLite alters tables by rebuilding them."""
    engine = _engine(url, writes=True, foreign_keys=False)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(migrate)
            broken = await connection.exec_driver_sql("PRAGMA foreign_key_check")
            assert not broken.fetchall(), "a migration left rows that refer to nothing"
    except CommandError as wrong:
        raise StoreUnavailable(
            "the server's database was written by a newer version of Tether; run that version"
        ) from wrong
    finally:
        await engine.dispose()


def _engine(url: URL, *, writes: bool, foreign_keys: bool = True) -> AsyncEngine:
    engine = create_async_engine(
        url,
        pool_size=1 if writes else READERS,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_S,
        hide_parameters=True,  # an exception's text may reach a log; what was stored may not
        json_serializer=_to_json,
        json_deserializer=msgspec.json.decode,
    )

    def prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver shall not begin transactions by itself
        cursor = connection.cursor()
        for pragma in (
            f"busy_timeout={BUSY_TIMEOUT_MS}",
            "journal_mode=WAL",
            "synchronous=FULL",
            f"foreign_keys={int(foreign_keys)}",
            f"query_only={int(not writes)}",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    event.listen(engine.sync_engine, "connect", prepare)
    event.listen(engine.sync_engine, "begin", begin)
    return engine


def _to_json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except PoolTimeout as wrong:
        raise StoreUnavailable("the server's database is overloaded; try again") from wrong
    except (DBAPIError, sqlite3.Error) as wrong:
        original = wrong.orig if isinstance(wrong, DBAPIError) else wrong
        code = getattr(original, "sqlite_errorcode", None)
        if code is None and isinstance(original, sqlite3.OperationalError):
            raise StoreUnavailable(_GENERIC) from wrong
        if code is not None and (sentence := _SENTENCES.get(code & 0xFF)):
            raise StoreUnavailable(sentence) from wrong
        raise
