"""The agent's journal: what it has to report, safe on the disk before anybody relies on it.

Law: all file work is done by `JournalFile` in one worker thread; this file queues, groups commits,
and survives the disk. Order is the order of `post`. An item that the disk refuses is kept in a
bounded memory and tried again; records of sessions and forwards are dropped first, an end never. The
agent lives on, whatever the disk does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from tether.agent.journal.previous_run import JournaledRun, RunMarker
from tether.agent.journal.storage import (
    ENDING,
    OPENING,
    STATE,
    JournalEntry,
    JournalFailed,
    JournalFile,
    PostMortem,
    entry_of,
    move_aside,
    open_entry,
)
from tether.log import get_logger
from tether.net.clock import Clock
from tether.net.tasks import Tasks
from tether.protocol.messages.reports import ReportItem

T = TypeVar("T")

KEPT_IN_MEMORY = 10_000
"""Entries that wait for a disk that refuses them."""

BATCH = 512
"""Entries per commit."""

RETRY_S = 2.0
CLOSE_S = 1.0

_log = get_logger("journal")


@dataclass(slots=True)
class _Waiting:
    entry: JournalEntry
    written: asyncio.Future[int | None] = field(repr=False)


class Journal:
    """Made by `open`. `journal_id` names the file's numbering, and changes with a new file."""

    def __init__(self, path: Path, clock: Clock) -> None:
        """Private; use `open`."""
        self.path = path
        self.journal_id = ""
        self.last_seq = 0  # the highest number that is on the disk
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._tasks = Tasks("journal")
        self._file: JournalFile
        self._replacing = asyncio.Lock()  # held while a damaged file is replaced
        self._run: RunMarker | None = None  # this run
        self._owed: PostMortem | None = None  # the ends that are to be written with it
        self._open: dict[str, float] = {}  # open connections, and since when (unix seconds)
        self._queue: deque[_Waiting] = deque()  # entries that are not being written yet
        self._writing: list[_Waiting] = []  # entries of the commit that is under way
        self._flushing: asyncio.Task[None] | None = None
        self._retry: asyncio.TimerHandle | None = None  # set while the disk refuses
        self._refused = False  # the disk refused the last commit
        self._full = False  # and for want of room
        self._on_full: Callable[[str], None] = lambda path: None
        self._dropped = 0  # entries that were dropped since the disk began to refuse
        self._closed = False
        self._changed = asyncio.Event()  # set when `last_seq` or `journal_id` has changed

    @classmethod
    async def open(
        cls, path: Path, run: RunMarker, *, clock: Clock, owed: PostMortem
    ) -> tuple[Journal, JournaledRun | None]:
        """Open or make the journal at `path` and begin `run` in it.

        Args:
            path: the file.
            run: this run.
            clock: where time comes from.
            owed: the ends that the previous run owes; they are written with `run`, atomically.

        Returns:
            The journal, and the run before this one where there was one.

        Raises:
            JournalFailed: there can be no journal here; the text is one sentence.
        """
        journal = cls(path, clock)
        try:
            try:
                await journal._in_thread(journal._open_file)
            except JournalFailed as failed:
                if not failed.corrupt:
                    raise
                await journal._begin_anew(failed)
            previous = await journal._file_work(JournalFile.previous)
            journal._run = run
            journal._owed = owed
            await journal._flush()
        except BaseException:
            journal._worker.shutdown(wait=False)
            raise
        return journal, previous

    def when_full(self, told: Callable[[str], None]) -> None:
        """Call `told` with the path of the file whenever the disk begins to refuse it for want of
        room; at once where it does already."""
        self._on_full = told
        if self._full:
            told(str(self.path))

    def post(self, item: ReportItem) -> asyncio.Future[int | None]:
        """Queue `item` now, in order; the future is its number once it is on the disk, or None
        when the disk refused it and it waits in memory."""
        return self._enqueue(entry_of(item))

    async def append(self, item: ReportItem) -> int | None:
        """`post`, and wait."""
        return await self.post(item)

    def mark_open(self, connection_id: str) -> None:
        """A connection is open that the server knows of (our control link): if this run dies, the
        next one reports its end."""
        self._enqueue(open_entry(connection_id, self._clock.now().wall))

    async def pending(self, after_seq: int, limit: int) -> list[tuple[int, ReportItem]] | None:
        """The oldest items on the disk with a number above `after_seq`; None if it fails."""
        nothing: list[tuple[int, ReportItem]] | None = None
        return await self._or(lambda file: file.read(after_seq, limit), nothing)

    async def acknowledge(self, seq: int) -> None:
        """The server has committed everything up to `seq`: forget it."""
        await self._or(lambda file: file.forget(seq), None)

    async def unsettled(self) -> set[str]:
        """Connections that are open, or whose items still wait here."""
        queued = (w.entry.connection_id for w in (*self._writing, *self._queue))
        waiting = {connection_id for connection_id in queued if connection_id}
        none: set[str] = set()
        return waiting | await self._or(lambda file: file.unsettled(), none)

    async def grown_beyond(self, journal_id: str, seq: int) -> None:
        """Wait until an item with a number above `seq` is on the disk, or a new file was begun."""
        while self.journal_id == journal_id and self.last_seq <= seq:
            self._changed.clear()
            await self._changed.wait()

    async def alive(self) -> None:
        """Note that this run is alive; call every few seconds."""
        at = self._clock.now().wall
        await self._or(lambda file: file.alive(at), None)

    async def stopped_cleanly(self) -> None:
        """Note that this run stops in order. Call last; what was posted is written first."""
        await self._tasks.wait(CLOSE_S)
        at = self._clock.now().wall
        await self._or(lambda file: file.stopped_cleanly(at), None)

    async def close(self) -> bool:
        """Close the file; False when the disk hangs and the worker thread with it."""
        await self._tasks.wait(CLOSE_S)
        self._closed = True
        if self._retry is not None:
            self._retry.cancel()
        closing = self._loop.run_in_executor(self._worker, lambda: self._file.close())
        self._worker.shutdown(wait=False)
        done, _ = await asyncio.wait({closing}, timeout=CLOSE_S)
        return bool(done)

    # -- the queue ---------------------------------------------------------------------

    def _enqueue(self, entry: JournalEntry) -> asyncio.Future[int | None]:
        waiting = _Waiting(entry, self._loop.create_future())
        self._queue.append(waiting)
        if entry.kind in OPENING:
            self._open[entry.connection_id] = entry.at
        elif entry.kind == ENDING:
            self._open.pop(entry.connection_id, None)
        if self._refused or self._closed:
            waiting.written.set_result(None)
            self._make_room()
        elif self._flushing is None:
            self._flush_soon()
        return waiting.written

    def _flush_soon(self) -> None:
        self._retry = None
        if self._flushing is None and not self._closed:
            self._flushing = self._tasks.spawn(self._flush(), "flush")
            self._flushing.add_done_callback(self._flushed)

    def _flushed(self, _: asyncio.Task[None]) -> None:
        self._flushing = None
        if self._queue and not self._refused:  # posted while the task was ending
            self._flush_soon()

    async def _flush(self) -> None:
        """Write until nothing waits: whatever was posted during one commit shares the next."""
        try:
            if self._owed is not None and self._run is not None:
                await self._file_work(partial(_begin, run=self._run, owed=self._owed))
                self._owed = None
                self._grow(await self._file_work(JournalFile.last_seq))
            while self._queue:
                self._writing = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
                entries = [waiting.entry for waiting in self._writing]
                numbers = await self._file_work(partial(_write, entries=entries))
                written, self._writing = self._writing, []
                for waiting, number in zip(written, numbers, strict=True):
                    if not waiting.written.done():
                        waiting.written.set_result(number)
                self._grow(max(numbers))
        except JournalFailed as failed:
            self._keep_for_later(failed)
        else:
            self._recovered()

    def _grow(self, seq: int) -> None:
        if seq > self.last_seq:
            self.last_seq = seq
            self._changed.set()

    # -- a disk that refuses -----------------------------------------------------------

    def _keep_for_later(self, failed: JournalFailed) -> None:
        self._queue.extendleft(reversed(self._writing))
        self._writing = []
        for waiting in self._queue:
            if not waiting.written.done():
                waiting.written.set_result(None)
        if failed.full and not self._full:
            self._full = True
            self._on_full(str(self.path))
        if not self._refused:
            self._refused = True
            _log.error(
                "journal cannot be written",
                path=str(self.path),
                error=str(failed),
                advice="free space or repair the disk: until then reports wait in memory, and are "
                "lost if this agent is killed",
            )
        self._make_room()
        self._retry = self._loop.call_later(RETRY_S, self._flush_soon)

    def _recovered(self) -> None:
        if self._refused:
            _log.info("journal can be written again", path=str(self.path), dropped=self._dropped)
        self._refused = self._full = False
        self._dropped = 0

    def _make_room(self) -> None:
        """Drop the oldest record of a detail, or else the oldest opening; never an end or a state."""
        while len(self._queue) > KEPT_IN_MEMORY:
            victim = next(
                (
                    w
                    for kept in ((ENDING, STATE, *OPENING), (ENDING, STATE))
                    for w in self._queue
                    if w.entry.kind not in kept
                ),
                None,
            )
            if victim is None:
                return
            self._queue.remove(victim)
            self._dropped += 1
            if self._dropped == 1:
                _log.error(
                    "journal memory full",
                    advice="free space on the disk: the oldest session records are being dropped",
                )

    # -- the worker thread -------------------------------------------------------------

    def _open_file(self) -> None:
        self._file = JournalFile(self.path)
        self.journal_id = self._file.journal_id

    async def _begin_anew(self, failed: JournalFailed) -> None:
        """The file cannot be used any more: keep it aside, and begin another in the same run."""
        aside = await self._in_thread(lambda: move_aside(self.path))
        await self._in_thread(self._open_file)
        if self._run is not None:
            await self._in_thread(partial(_begin, self._file, run=self._run, owed=lambda _: ()))
            still_open = [open_entry(connection_id, at) for connection_id, at in self._open.items()]
            await self._in_thread(partial(_write, self._file, entries=still_open))
        self.last_seq = 0
        self._changed.set()
        _log.error(
            "journal was damaged",
            path=str(self.path),
            error=str(failed),
            moved_to=str(aside),
            advice="a new one was begun; what the old one still had to report is lost. "
            "Look for a failing disk.",
        )

    async def _file_work(self, work: Callable[[JournalFile], T]) -> T:
        """Do `work` on the file, and again on a new file where this one turns out to be damaged."""
        file = self._file
        try:
            return await self._in_thread(lambda: work(file))
        except JournalFailed as failed:
            if not failed.corrupt or self._closed:
                raise
            async with self._replacing:
                if self._file is file:
                    await self._in_thread(file.close)
                    await self._begin_anew(failed)
            return await self._in_thread(lambda: work(self._file))

    async def _or(self, work: Callable[[JournalFile], T], otherwise: T) -> T:
        try:
            return await self._file_work(work)
        except JournalFailed as failed:
            _log.debug("journal refused", error=str(failed))
            return otherwise

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await self._loop.run_in_executor(self._worker, work)


def _begin(file: JournalFile, *, run: RunMarker, owed: PostMortem) -> None:
    file.begin(run, owed)


def _write(file: JournalFile, *, entries: list[JournalEntry]) -> list[int]:
    return file.write(entries)
