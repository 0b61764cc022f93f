"""What a relay has yet to tell its server: carriers that were joined, and carriers that ended.

Law: no I/O and no clock. An end is numbered and kept until the server has it on file, and is sent again
after a lost link. The ledger is bounded: when it is full, the oldest end is dropped and counted.
"""

from __future__ import annotations

from collections import deque

from tether.protocol.messages.derp import CarrierReport, RelayReport

MAX_KEPT = 10_000
"""Ends that wait for the server."""

MAX_REPORTED = 200
"""Carriers in one report: far below the size of a control message."""


class RelayLedger:
    """Keeps what happened to carriers until the server knows."""

    def __init__(self, *, capacity: int = MAX_KEPT) -> None:
        self._capacity = capacity
        self._ended: deque[CarrierReport] = deque()
        self._first = 1  # the number of the oldest end that is kept
        self._told = 0  # the number of the last end that was sent over this link
        self._joined: list[str] = []  # joined since the last report
        self.dropped = 0  # ends that were dropped because the ledger was full

    def __len__(self) -> int:
        return len(self._ended)

    def joined(self, connection_id: str) -> None:
        """A carrier was joined."""
        if len(self._joined) < self._capacity:
            self._joined.append(connection_id)

    def ended(self, what: CarrierReport) -> None:
        """A carrier ended."""
        self._ended.append(what)
        if len(self._ended) > self._capacity:
            self._ended.popleft()
            self._first += 1
            self.dropped += 1

    def link_up(self) -> None:
        """There is a new link, whose registration has named what is joined. All ends are sent again."""
        self._joined.clear()
        self._told = self._first - 1

    def report(self) -> RelayReport | None:
        """The next report of this link; None if there is nothing to tell."""
        self._told = max(self._told, self._first - 1)
        skipped = self._told - self._first + 1
        ended = [
            self._ended[at] for at in range(skipped, min(len(self._ended), skipped + MAX_REPORTED))
        ]
        joined, self._joined = self._joined[:MAX_REPORTED], self._joined[MAX_REPORTED:]
        if not ended and not joined:
            return None
        report = RelayReport(joined=joined, first_seq=self._told + 1, ended=ended)
        self._told += len(ended)
        return report

    def acknowledged(self, seq: int) -> None:
        """The server has everything up to `seq` on file."""
        while self._ended and self._first <= min(seq, self._told):
            self._ended.popleft()
            self._first += 1

    def __bool__(self) -> bool:
        """Whether something is not on file yet."""
        return bool(self._ended or self._joined)
