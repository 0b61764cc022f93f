"""The client's journal: one small file a process, from which a later one reports what it could not.

Law: a file belongs to the process that holds its lock, which the kernel lets go when that dies; so
whoever gets the lock of another's file is its heir, alone. Lines are appended and never changed:
who runs, which connection it opened, what happened, how it ended, and what became of its control
links. The file is bounded, mode 0600, and
deleted once the server has committed what is in it. A disk that refuses costs the journal, nothing
else. Only whole lines count, and what cannot be read is swept.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tether.client.report.link_status import LinkStatus
from tether.net.host import platform

MAX_BYTES = 64 << 10
MAX_FILES = 200
MOST_AT_ONCE = 32
"""Files that one process hands in; the next one sees to the rest."""

KEPT_S = 30 * 86_400.0
"""A journal that nobody could hand in for this long is of no more use."""

_FORMAT = 1
_SUFFIX = ".journal"


class ClientJournal:
    """The journal of this process. Each method is a system call or two; `begin` and `ended` wait for
    the disk, so call them from a thread where somebody types meanwhile. What has been settled or closed
    is not begun by a thread that comes late: an heir would take it for that of a process that died."""

    def __init__(self, directory: Path, instance_id: str) -> None:
        """Nothing is written before `begin`."""
        self._path = directory / f"{instance_id}{_SUFFIX}"
        self._file: int | None = None
        self._left = MAX_BYTES
        self._lock = threading.RLock()
        self._over = False
        self._links_known = True

    def begin(self, run: Mapping[str, Any], connection_id: str) -> None:
        """Say who runs, and which connection is open. Safe on the disk when this returns.

        `run` has `instance_id`, `url`, `started_at`, and whatever a post-mortem wants to know.
        """
        with self._lock, contextlib.suppress(OSError):
            if self._file is not None or self._over:
                return
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | platform.CLOEXEC
            self._file = os.open(self._path, flags, 0o600)
            platform.lock(self._file, wait=False)
            self._append({"format": _FORMAT, **run, "connection_id": connection_id}, durable=True)

    @property
    def begun(self) -> bool:
        return self._file is not None

    def note(self, fact: Mapping[str, Any]) -> None:
        """Something happened; `fact` is a fact's record."""
        self._append({"fact": fact})

    def survived(self, oom_kills: int) -> None:
        """Others of our memory group were killed, and not we: so often, by its counter."""
        self._append({"survived_oom_kills": oom_kills})

    def link(self, connection_id: str, state: str | Mapping[str, Any]) -> None:
        """What became of a control link: its `LinkStatus`, or the account of its end.

        Where there is no room for it, nothing that was said of links counts any more: an heir must not
        take one for open that is not.
        """
        if self._links_known and not self._append({"link": connection_id, "is": state}):
            self._links_known = False
            self._append({"links": "unknown"}, durable=True)

    def alive(self) -> None:
        """This process lives: the file's time says so."""
        with self._lock, contextlib.suppress(OSError):
            if self._file is not None:
                os.utime(self._file)

    def ended(self, end: Mapping[str, Any]) -> None:
        """The connection has ended. Safe on the disk when this returns."""
        self._append({"ended": end}, durable=True)

    def settled(self) -> None:
        """The server has committed the end: the journal is of no more use."""
        with self._lock:
            if self._file is not None:
                with contextlib.suppress(OSError):
                    self._path.unlink()
            self.close()

    def close(self) -> None:
        """Leave the journal to an heir."""
        with self._lock:
            self._over = True
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def _append(self, line: Mapping[str, Any], *, durable: bool = False) -> bool:
        """Whether there was room for it, or is no file."""
        body = json.dumps(line).encode() + b"\n"
        with self._lock:
            if self._file is None:
                return True
            if len(body) > self._left and not durable:
                return False
            with contextlib.suppress(OSError):
                self._left -= os.write(self._file, body)
                if durable:
                    os.fsync(self._file)
            return True


class OrphanedJournal:
    """What a process that is gone left behind; held until `settled` or `close`."""

    def __init__(self, path: Path, file: int) -> None:
        """Private; use `estates`."""
        self._path = path
        self._file = file
        self.last_alive_at = os.fstat(file).st_mtime
        self.run: dict[str, Any] = {}
        self.facts: list[dict[str, Any]] = []
        self.end: dict[str, Any] | None = None
        self.links: dict[str, str | dict[str, Any]] = {}
        """Control links that are not settled: `LinkStatus.UP`, or the account of the end."""
        links_known = True
        for line in _lines(file):
            if "format" in line:
                self.run = line if line["format"] == _FORMAT else {}
            elif "fact" in line:
                self.facts.append(line["fact"])
            elif "ended" in line:
                self.end = line["ended"]
            elif "survived_oom_kills" in line:
                self.run["oom_kills"] = line["survived_oom_kills"]
            elif "links" in line:
                links_known = False
            elif "link" in line and line["is"] == LinkStatus.SETTLED:
                self.links.pop(line["link"], None)
            elif "link" in line:
                self.links[line["link"]] = line["is"]
        if not links_known:
            self.links.clear()

    @property
    def readable(self) -> bool:
        """Whether there is anything to hand in."""
        wanted = ("instance_id", "url", "started_at", "connection_id")
        return all(name in self.run for name in wanted)

    def settled(self) -> None:
        """It has been handed in, or is of no use: delete it."""
        with contextlib.suppress(OSError):
            self._path.unlink()
        self.close()

    def close(self) -> None:
        """Leave it to the next heir."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def estates(directory: Path, url: str, now: float) -> list[OrphanedJournal]:
    """What processes that are gone left for the server at `url`, oldest first; sweeps on the way.

    Each is held until it is closed, so that nobody else hands it in meanwhile.
    """
    files = []
    with contextlib.suppress(OSError):
        files = [(p.stat().st_mtime, p) for p in directory.iterdir() if p.suffix == _SUFFIX]
    files.sort()
    too_many = len(files) - MAX_FILES
    held: list[OrphanedJournal] = []
    for index, (changed, path) in enumerate(files):
        file = _inherit(path) if len(held) < MOST_AT_ONCE else None
        if file is None:
            continue  # its process lives, another heir was faster, or we have enough
        try:
            estate = OrphanedJournal(path, file)
        except OSError:
            os.close(file)
            continue
        if not estate.readable or now - changed > KEPT_S or index < too_many:
            estate.settled()
        elif estate.run["url"] == url:
            held.append(estate)
        else:
            estate.close()
    return held


def _inherit(path: Path) -> int | None:
    """The file at `path`, locked by us; None where somebody else has it."""
    try:
        file = os.open(path, os.O_RDWR | platform.CLOEXEC | platform.NOFOLLOW)
    except OSError:
        return None
    try:
        platform.lock(file, wait=False)
        if os.fstat(file).st_ino == path.stat().st_ino:  # else it was handed in while we came
            return file
    except OSError:
        pass
    os.close(file)
    return None


def _lines(file: int) -> Iterator[dict[str, Any]]:
    body = os.pread(file, 2 * MAX_BYTES, 0)
    for raw in body.split(b"\n")[:-1]:
        with contextlib.suppress(ValueError):
            line = json.loads(raw)
            if isinstance(line, dict):
                yield line
