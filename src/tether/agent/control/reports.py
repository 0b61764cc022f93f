"""The reports pump: journal items to the server, in order, until each is acknowledged.

Law: at most one batch is outstanding; what is not acknowledged is sent again over the next link, and
the server applies it once. An item leaves the journal only by its acknowledgement. No polling: the
pump wakes when the journal grows or an acknowledgement arrives.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from tether.agent.journal.journal import RETRY_S, Journal
from tether.protocol.messages.reports import Report, ReportAck, ReportItem

MAX_ITEMS = 256
MAX_BYTES = 512 << 10

_ENCODER = msgspec.msgpack.Encoder()


class ReportPump:
    """Pumps over one link. Run `run` as a task; hand every `ReportAck` to `acknowledged`."""

    def __init__(self, journal: Journal, send: Callable[[Report], None]) -> None:
        self._journal = journal
        self._send = send
        self._journal_id = journal.journal_id
        self._done_through = 0
        self._awaited: int | None = None
        self._progress = asyncio.Event()
        self._over = False

    async def run(self) -> None:
        """Send what waits and what comes, for ever."""
        while True:
            if self._journal_id != self._journal.journal_id:  # a new file, numbered anew
                self._journal_id = self._journal.journal_id
                self._done_through = 0
            newest = self._journal.last_seq
            found = await self._journal.pending(self._done_through, MAX_ITEMS)
            if found is None:
                await asyncio.sleep(RETRY_S)
                continue
            batch = cut(found)
            if not batch:
                self._move(max(self._done_through, newest))
                await self._journal.grown_beyond(self._journal_id, self._done_through)
                continue
            self._awaited = batch[-1][0]
            self._send(
                Report(
                    journal_id=self._journal_id,
                    first_seq=batch[0][0],
                    items=[item for _, item in batch],
                )
            )
            before = self._done_through
            while self._done_through == before:
                self._progress.clear()
                await self._progress.wait()
            self._awaited = None
            await self._journal.acknowledge(self._done_through)

    def acknowledged(self, ack: ReportAck) -> None:
        """The server committed a batch. What it cannot have been sent, it cannot acknowledge."""
        if ack.journal_id == self._journal_id and self._awaited is not None:
            self._move(max(self._done_through, min(ack.seq, self._awaited)))

    async def flushed(self) -> bool:
        """Wait until everything on the disk is acknowledged; False if the link ends before that."""
        while not self._over:
            same = self._journal_id == self._journal.journal_id
            if same and self._done_through >= self._journal.last_seq:
                return True
            self._progress.clear()
            await self._progress.wait()
        return False

    def close(self) -> None:
        """The link is over: nobody need wait for it any more."""
        self._over = True
        self._progress.set()

    def _move(self, seq: int) -> None:
        self._done_through = seq
        self._progress.set()


def cut(pending: Sequence[tuple[int, ReportItem]]) -> list[tuple[int, ReportItem]]:
    """The head of `pending` that fits one report: numbers without a gap, and not too large.

    A report names its first number only, so one that could not be read ends the batch before it.
    """
    batch: list[tuple[int, ReportItem]] = []
    size = 0
    for seq, item in pending:
        size += len(_ENCODER.encode(item))
        if batch and (seq != batch[-1][0] + 1 or size > MAX_BYTES):
            break
        batch.append((seq, item))
    return batch
