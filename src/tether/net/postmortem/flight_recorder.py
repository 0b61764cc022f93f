"""The flight recorder: what a program leaves behind, so that its next start can say how it ended.

Law: a disk that refuses or hangs costs the record, never the program. After `begin` files are written in
a thread, one at a time. There are three small files in the program's directory (mode 0600):

- `flight.json`: which run this is, where, since when, and its last samples. It is on the disk before
  `begin` returns, and is replaced every few seconds, and at once when a kill for memory was survived.
- `crash.txt`: what the crash handlers wrote.
- `exit-note.json`: how it ended, as its parent saw it, if the parent is one of our programs.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tether.net.clock import Clock
from tether.net.host.identity import HostIdentity
from tether.net.host.vital_signs import VitalSample, VitalSigns
from tether.net.signals import Received
from tether.net.tasks import Tasks

FLIGHT_FILE, CRASH_FILE, NOTE_FILE = "flight.json", "crash.txt", "exit-note.json"
EVERY_S = 5.0
"""Seconds between two writes where nothing is urgent."""

PATIENCE_S = 1.0
"""How long an orderly end waits for the disk."""

FORMAT = 1
ROOM = 16 << 10
"""The size of the file from the beginning on, so that a full disk has room for what is written later."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)

_log = logging.getLogger("tether.recorder")


@dataclass(frozen=True, slots=True, kw_only=True)
class Flight:
    """One run of a program, as it last wrote about itself. Times are its wall clock."""

    instance_id: str
    pid: int
    started_at: float
    version: str
    host: HostIdentity = field(default_factory=HostIdentity)
    memory_group: str = ""
    """`Cgroup.identity`."""
    oom_kills: int | None = None
    """The counter of that group at the last write."""
    alive_at: float = 0.0
    """When it last wrote."""
    disk_full: bool = False
    """Whether its disk was full at the last sample."""
    armed: bool = False
    """Whether the crash handlers were on."""
    signal: int = 0
    """The signal that told it to stop; 0 if none did."""
    sender: str = ""
    """Who sent that signal."""
    ended: str = ""
    """"" while it runs, "clean" after an orderly end, or the exception that ended it."""
    vitals: tuple[dict[str, Any], ...] = ()
    """Its last samples."""


def read_flight(path: Path) -> Flight | None:
    """The flight in the file at `path`; None where there is none that can be read."""
    try:
        told = json.loads(path.read_bytes())
        if told.pop("format") != FORMAT:
            return None
        host, vitals = HostIdentity(**told.pop("host")), tuple(told.pop("vitals"))
        return Flight(host=host, vitals=vitals, **told)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def write_flight(path: Path, flight: Flight, *, durable: bool) -> None:
    """Replace the file at `path`; on a full disk, overwrite it in place.

    Raises:
        OSError: the disk refuses.
    """
    body = json.dumps({"format": FORMAT, **asdict(flight)}).encode().ljust(ROOM)
    beside = path.with_name(f"{path.name}.new")
    try:
        _put(beside, os.O_CREAT | os.O_TRUNC, body, durable=durable)
        os.replace(beside, path)
    except OSError as wrong:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        if wrong.errno not in NO_ROOM or not path.exists() or path.stat().st_size < len(body):
            raise
        _put(path, 0, body, durable=durable)  # in the blocks that the file has already


def _put(path: Path, how: int, body: bytes, *, durable: bool) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | how, 0o600)
    try:
        if os.write(descriptor, body) < len(body):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


class FlightRecorder:
    """Keeps the flight of this run up to date. Made by `begin`."""

    def __init__(self, path: Path, flight: Flight, vitals: VitalSigns, clock: Clock) -> None:
        """Use `begin`."""
        self._path = path
        self._vitals = vitals
        self._clock = clock
        self._flight = flight
        self._tasks = Tasks("recorder")
        self._writing: asyncio.Task[None] | None = None
        self._written_at = clock.now().mono
        self._again = False  # there is more to write once `_writing` is done
        self._refused = False  # the disk refused, and that was logged

    @classmethod
    def begin(
        cls, directory: Path, flight: Flight, vitals: VitalSigns, clock: Clock
    ) -> FlightRecorder:
        """Record that this run began; that is on the disk when this returns, if the disk allows it.

        What the last run left must have been read before.
        """
        recorder = cls(directory / FLIGHT_FILE, flight, vitals, clock)
        vitals.look_at_disk()
        recorder._write(recorder._now(), durable=True)
        return recorder

    def sampled(self, sample: VitalSample) -> None:
        """A sample was taken: write, if that is due or the sample has something urgent."""
        kills, known = sample.group.oom_kills, self._flight.oom_kills
        survived = kills is not None and known is not None and kills > known
        due = self._clock.now().mono - self._written_at >= EVERY_S
        if survived or due or sample.disk_full != self._flight.disk_full:
            self._save()

    def signalled(self, received: Received) -> None:
        """A signal tells this run to stop."""
        if not self._flight.signal:
            self._flight = replace(
                self._flight, signal=int(received.number), sender=received.sender
            )
            self._save()

    def failed(self, what: str) -> None:
        """An exception ends this run. It is written here and now, for the loop may be gone."""
        if not self._flight.ended:
            self._flight = replace(self._flight, ended=what[:500])
            self._write(self._flight, durable=True)

    async def ended(self) -> None:
        """This run ends in order. The disk is waited for, but not for long."""
        self._flight = replace(self._flight, ended="clean")
        self._save()
        await self._tasks.wait(PATIENCE_S)

    def _save(self) -> None:
        self._written_at = self._clock.now().mono
        if self._writing is None:
            self._writing = self._tasks.spawn(self._save_in_thread(), "write")
            self._writing.add_done_callback(self._saved)
        else:
            self._again = True

    async def _save_in_thread(self) -> None:
        flight = self._flight = self._now()
        durable = bool(flight.signal or flight.ended)
        try:
            await asyncio.to_thread(self._write, flight, durable=durable)
        except RuntimeError as wrong:  # no thread can be started: write it here
            _log.debug("the flight recorder has no thread: %s", wrong)
            self._write(flight, durable=durable)

    def _saved(self, _: asyncio.Task[None]) -> None:
        self._writing = None
        if self._again:
            self._again = False
            self._save()

    def _now(self) -> Flight:
        ring = self._vitals.ring
        kills = self._vitals.group.oom_kills()
        return replace(
            self._flight,
            alive_at=self._clock.now().wall,
            oom_kills=kills if kills is not None else self._flight.oom_kills,
            disk_full=bool(ring) and ring[-1].disk_full,
            vitals=tuple(sample.brief() for sample in ring),
        )

    def _write(self, flight: Flight, *, durable: bool) -> None:
        self._vitals.look_at_disk()
        try:
            write_flight(self._path, flight, durable=durable)
        except OSError as wrong:
            if not self._refused:
                _log.warning("the flight recorder cannot write %s: %s", self._path, wrong)
            self._refused = True
        else:
            self._refused = False
