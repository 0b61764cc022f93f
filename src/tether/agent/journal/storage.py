"""The journal's SQLite file: what is written is on the disk when a call returns.

Law: synchronous, and used by one thread only (`Journal`'s worker). Every method is one transaction;
an item and its effect on the open connections stand or fall together. A number is never given twice,
even after its item was acknowledged and deleted (AUTOINCREMENT): the server's cursor relies on it.
Anything SQLite raises becomes `JournalFailed`, here and nowhere else.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tether.agent.journal.previous_run import JournaledRun, RunMarker
from tether.protocol.messages.codec import decode_item
from tether.protocol.messages.reports import Ended, LifecycleRecord, Opened, ReportItem

FORMAT = 1
KEPT_RUNS = 20
_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}
"""SQLITE_ERROR, too: our statements are fixed, so where one cannot be compiled the tables are not
ours."""
_SIDE_FILES = ("", "-wal", "-shm")

_SCHEMA = """
CREATE TABLE meta (journal_id TEXT NOT NULL);
CREATE TABLE runs (
  run INTEGER PRIMARY KEY AUTOINCREMENT,
  instance_id TEXT NOT NULL,
  boot_id TEXT NOT NULL,
  pid INTEGER NOT NULL,
  started_at REAL NOT NULL,
  last_alive_at REAL NOT NULL,
  stopped_cleanly_at REAL
);
CREATE TABLE items (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL,
  connection_id TEXT NOT NULL,
  body BLOB NOT NULL
);
CREATE TABLE open_connections (connection_id TEXT PRIMARY KEY, opened_at REAL NOT NULL);
"""

_BODY = msgspec.msgpack.Encoder()

PostMortem = Callable[[JournaledRun], Sequence[ReportItem]]


class JournalFailed(Exception):
    """The file could not be read or written: for good, where it is `corrupt`; because the disk has no
    room, where it is `full`."""

    def __init__(self, message: str, *, corrupt: bool = False, full: bool = False) -> None:
        super().__init__(message)
        self.corrupt = corrupt
        self.full = full


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """One change: an item to report, or (without a body) a connection that is now open."""

    kind: str
    connection_id: str
    at: float
    body: bytes = b""


def entry_of(item: ReportItem) -> JournalEntry:
    """The entry that `item` makes."""
    return JournalEntry(
        kind=type(item).__name__,
        connection_id=item.connection_id,
        at=item.at if isinstance(item, Opened | Ended) else 0.0,  # only openings need a date
        body=_BODY.encode(item),
    )


def open_entry(connection_id: str, at: float) -> JournalEntry:
    """A connection that is open and that the server knows of already (the control link)."""
    return JournalEntry(kind="Open", connection_id=connection_id, at=at)


OPENING, ENDING = (Opened.__name__, "Open"), Ended.__name__
STATE = LifecycleRecord.__name__


class JournalFile:
    """One open file. Make it, then call `begin` once."""

    def __init__(self, path: Path) -> None:
        """Open `path`, or make it (mode 0600).

        Raises:
            JournalFailed: it cannot be opened.
        """
        self.path = path
        with _translated(f"the journal {path} cannot be used: "):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._db = sqlite3.connect(path, isolation_level=None, timeout=5.0)
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute(f"PRAGMA journal_size_limit = {4 << 20}")
        (fmt,) = self._db.execute("PRAGMA user_version").fetchone()
        if fmt > FORMAT:
            raise JournalFailed(
                f"{self.path} was written by a newer version of Tether: run that one, or move the "
                f"file away"
            )
        if fmt == 0:
            with self._transaction():
                for statement in _SCHEMA.split(";"):
                    self._db.execute(statement)
                self._db.execute("INSERT INTO meta VALUES (?)", (uuid.uuid4().hex,))
                self._db.execute(f"PRAGMA user_version = {FORMAT}")
        (health,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        row = self._db.execute("SELECT journal_id FROM meta").fetchone()
        if health != "ok" or row is None:
            raise JournalFailed(f"{self.path} is damaged: {health}", corrupt=True)
        self.journal_id = str(row[0])

    def previous(self) -> JournaledRun | None:
        """The latest run in the file, with what it left open."""
        with _translated():
            row = self._db.execute(
                "SELECT instance_id, boot_id, pid, started_at, last_alive_at, stopped_cleanly_at "
                "FROM runs ORDER BY run DESC LIMIT 1"
            ).fetchone()
            if row is None:
                return None
            left_open = self._db.execute(
                "SELECT connection_id FROM open_connections ORDER BY opened_at, connection_id"
            )
            return JournaledRun(
                marker=RunMarker(instance_id=row[0], boot_id=row[1], pid=row[2], started_at=row[3]),
                last_alive_at=row[4],
                stopped_cleanly_at=row[5],
                open_connections=tuple(connection_id for (connection_id,) in left_open),
            )

    def begin(self, run: RunMarker, owed: PostMortem) -> None:
        """Write `run`'s marker and, with it, the ends that the run before it owes: a run that dies
        right after its start must not be blamed for what an earlier one left open."""
        previous = self.previous()
        with _translated(), self._transaction():
            for item in owed(previous) if previous is not None else ():
                self._write(entry_of(item))
            self._db.execute(
                "INSERT INTO runs (instance_id, boot_id, pid, started_at, last_alive_at) "
                "VALUES (?, ?, ?, ?, ?)",
                (run.instance_id, run.boot_id, run.pid, run.started_at, run.started_at),
            )
            self._db.execute(
                "DELETE FROM runs WHERE run <= (SELECT max(run) FROM runs) - ?", (KEPT_RUNS,)
            )

    def write(self, entries: Sequence[JournalEntry]) -> list[int]:
        """Write all of `entries` or none; their numbers (0 for an entry without an item)."""
        with _translated(), self._transaction():
            return [self._write(entry) for entry in entries]

    def _write(self, entry: JournalEntry) -> int:
        if entry.kind in OPENING:
            self._db.execute(
                "INSERT OR IGNORE INTO open_connections VALUES (?, ?)",
                (entry.connection_id, entry.at),
            )
        elif entry.kind == ENDING:
            self._db.execute(
                "DELETE FROM open_connections WHERE connection_id = ?", (entry.connection_id,)
            )
        if not entry.body:
            return 0
        added = self._db.execute(
            "INSERT INTO items (kind, connection_id, body) VALUES (?, ?, ?)",
            (entry.kind, entry.connection_id, entry.body),
        )
        return added.lastrowid or 0

    def read(self, after_seq: int, limit: int) -> list[tuple[int, ReportItem]]:
        """The oldest items with a number above `after_seq`; one that cannot be read is left out."""
        found = []
        with _translated():
            rows = self._db.execute(
                "SELECT seq, body FROM items WHERE seq > ? ORDER BY seq LIMIT ?", (after_seq, limit)
            ).fetchall()
        for seq, body in rows:
            with contextlib.suppress(msgspec.DecodeError):
                found.append((int(seq), decode_item(body)))
        return found

    def forget(self, seq: int) -> None:
        """Delete every item up to and including `seq`."""
        with _translated(), self._transaction():
            self._db.execute("DELETE FROM items WHERE seq <= ?", (seq,))

    def last_seq(self) -> int:
        """The highest number ever given."""
        with _translated():
            row = self._db.execute(
                "SELECT seq FROM sqlite_sequence WHERE name = 'items'"
            ).fetchone()
        return int(row[0]) if row else 0

    def unsettled(self) -> set[str]:
        """Connections that are open, or whose items the server has not yet acknowledged."""
        with _translated():
            rows = self._db.execute(
                "SELECT connection_id FROM open_connections UNION SELECT connection_id FROM items"
            ).fetchall()
        return {connection_id for (connection_id,) in rows if connection_id}

    def alive(self, at: float) -> None:
        """Note that this run was alive at `at`."""
        self._mark("last_alive_at", at)

    def stopped_cleanly(self, at: float) -> None:
        """Note that this run stopped in order at `at`."""
        self._mark("stopped_cleanly_at", at)

    def _mark(self, column: str, at: float) -> None:
        with _translated(), self._transaction():
            self._db.execute(
                f"UPDATE runs SET {column} = ? WHERE run = (SELECT max(run) FROM runs)", (at,)
            )

    def close(self) -> None:
        """Close the file. Whatever is in it is safe already."""
        with contextlib.suppress(sqlite3.Error):
            self._db.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # some errors (a full disk) roll back on their own
                self._db.execute("ROLLBACK")
            raise


def move_aside(path: Path) -> Path:
    """Rename a journal that cannot be used, with its side files. Returns its new path.

    Raises:
        JournalFailed: it cannot be renamed.
    """
    number = 1
    while (aside := path.with_name(f"{path.name}.corrupt-{number}")).exists():
        number += 1
    with _translated():
        for suffix in _SIDE_FILES:
            with contextlib.suppress(FileNotFoundError):
                os.rename(f"{path}{suffix}", f"{aside}{suffix}")
    return aside


@contextlib.contextmanager
def _translated(prefix: str = "") -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as wrong:
        code = getattr(wrong, "sqlite_errorcode", 0) or 0
        raise JournalFailed(
            f"{prefix}{wrong}",
            corrupt=(code & 0xFF) in _CORRUPT,
            full=(code & 0xFF) == sqlite3.SQLITE_FULL,
        ) from wrong
    except OSError as wrong:
        full = wrong.errno in (errno.ENOSPC, errno.EDQUOT)
        raise JournalFailed(f"{prefix}{wrong.strerror or wrong}", full=full) from wrong
