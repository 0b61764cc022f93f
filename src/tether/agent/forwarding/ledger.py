"""Every forwarded connection of one SSH connection, recorded without flooding anybody.

Law: no I/O; `now` goes in, records come out. The first connections to each destination are recorded
one by one, at their start and at their end. From then on they are counted, and the counts of a window
come out as one roll-up for each kind and destination. Nothing is lost: once `finish` has been called,
whatever started has ended in a record or in a roll-up. Nothing grows without bound: records,
destinations and texts have limits, and what exceeds them is counted under "*".
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tether.protocol.messages.reports import (
    ForwardEnd,
    ForwardItem,
    ForwardKind,
    ForwardRecord,
    ForwardRollup,
)
from tether.protocol.timestamp import Timestamp
from tether.text import REPLACEMENT, printable

PER_DESTINATION = 20
"""How many connections to one destination are recorded one by one."""

PER_CONNECTION = 200
"""How many of one SSH connection are, whatever their destinations (a browser behind `-D`)."""

WINDOW_S = 60.0
LONGEST_WINDOW_S = 900.0
"""Each window is twice as long as the one before, up to this: a busy day is not a thousand rows."""

DESTINATIONS_PER_WINDOW = 16
MAX_TEXT = 256
"""Characters of a destination, an origin or a detail."""

OTHERS = "*"


@dataclass(frozen=True, slots=True)
class _Open:
    kind: ForwardKind
    destination: str
    origin: str
    started: Timestamp
    alone: bool
    """Whether it has a record of its own."""


@dataclass(slots=True)
class _Counts:
    started: int = 0
    ended: int = 0
    ends: dict[str, int] = field(default_factory=dict)
    rx_bytes: int = 0
    tx_bytes: int = 0
    longest_s: float = 0.0


_Key = tuple[ForwardKind, str]


class ForwardLedger:
    """The forwards of one connection. Hand on what each method returns, then ask `deadline()`."""

    def __init__(
        self,
        connection_id: str,
        *,
        per_destination: int = PER_DESTINATION,
        per_connection: int = PER_CONNECTION,
        window_s: float = WINDOW_S,
        destinations: int = DESTINATIONS_PER_WINDOW,
    ) -> None:
        self._connection_id = connection_id
        self._per_destination = per_destination
        self._per_connection = per_connection
        self._window_s = window_s
        self._destinations = destinations
        self._next_id = 1
        self._open: dict[int, _Open] = {}
        self._recorded: dict[_Key, int] = {}  # how many of each have records of their own
        self._alone = 0  # the sum of these
        self._counts: dict[_Key, _Counts] = {}  # of the window that is open
        self._since: Timestamp | None = None  # when that was opened
        self.served = 0
        """How many connections were really carried."""

    @property
    def open(self) -> int:
        """How many connections are open now."""
        return len(self._open)

    def deadline(self) -> float | None:
        """When (monotonic seconds) to call `tick` next; None for never."""
        return None if self._since is None else self._since.mono + self._window_s

    def started(
        self, kind: ForwardKind, destination: str, now: Timestamp, *, origin: str = ""
    ) -> tuple[int, list[ForwardItem]]:
        """A connection is being carried; its number, and what to record."""
        number, self._next_id = self._next_id, self._next_id + 1
        self.served += 1
        opened = _Open(
            kind, _text(destination), _text(origin), now, self._takes_one(kind, _text(destination))
        )
        self._open[number] = opened
        if opened.alone:
            return number, [self._record(number, opened)]
        self._counted(opened.kind, opened.destination, now).started += 1
        return number, []

    def ended(
        self,
        number: int,
        end: ForwardEnd,
        now: Timestamp,
        *,
        rx_bytes: int = 0,
        tx_bytes: int = 0,
        cause: str = "",
        detail: str = "",
    ) -> list[ForwardItem]:
        """A connection is over. A second end of the same one is ignored."""
        opened = self._open.pop(number, None)
        if opened is None:
            return []
        duration = now.mono - opened.started.mono
        if opened.alone:
            record = self._record(
                number, opened, now, duration, end, cause, detail, rx_bytes, tx_bytes
            )
            return [record]
        counts = self._counted(opened.kind, opened.destination, now)
        counts.ended += 1
        counts.ends[end] = counts.ends.get(end, 0) + 1
        counts.rx_bytes += rx_bytes
        counts.tx_bytes += tx_bytes
        counts.longest_s = max(counts.longest_s, duration)
        return []

    def refused(
        self,
        kind: ForwardKind,
        destination: str,
        end: ForwardEnd,
        now: Timestamp,
        *,
        origin: str = "",
        cause: str = "",
        detail: str = "",
    ) -> list[ForwardItem]:
        """A connection that never began: nothing was there, or policy does not allow it."""
        number, begun = self.started(kind, destination, now, origin=origin)
        self.served -= 1
        ended = self.ended(number, end, now, cause=cause, detail=detail)
        return ended if begun else []  # the record of its end says everything

    def tick(self, now: Timestamp) -> list[ForwardItem]:
        """Time has passed: the roll-ups of a window that is over."""
        deadline = self.deadline()
        if deadline is None or now.mono < deadline:
            return []
        self._window_s = min(self._window_s * 2, LONGEST_WINDOW_S)
        return self._roll_up(now)

    def finish(self, now: Timestamp, *, cause: str = "") -> list[ForwardItem]:
        """The SSH connection is over, because of `cause`: returns everything that is left."""
        records: list[ForwardItem] = []
        for number in list(self._open):
            records += self.ended(number, ForwardEnd.CONNECTION_ENDED, now, cause=cause)
        return records + self._roll_up(now)

    def _takes_one(self, kind: ForwardKind, destination: str) -> bool:
        """Whether one more connection is recorded by itself."""
        seen = self._recorded.get((kind, destination), 0)
        if seen >= self._per_destination or self._alone >= self._per_connection:
            return False
        self._recorded[kind, destination] = seen + 1  # no more keys than records
        self._alone += 1
        return True

    def _counted(self, kind: ForwardKind, destination: str, now: Timestamp) -> _Counts:
        if self._since is None:
            self._since = now
        key = (kind, destination)
        if key not in self._counts and len(self._counts) >= self._destinations:
            key = (kind, OTHERS)  # at most one more key a kind
        return self._counts.setdefault(key, _Counts())

    def _roll_up(self, now: Timestamp) -> list[ForwardItem]:
        since, self._since = self._since, None
        counted, self._counts = self._counts, {}
        if since is None:
            return []
        return [
            ForwardRollup(
                connection_id=self._connection_id,
                kind=kind,
                destination=destination,
                since=since.wall,
                until=now.wall,
                started=counts.started,
                ended=counts.ended,
                ends=counts.ends,
                rx_bytes=counts.rx_bytes,
                tx_bytes=counts.tx_bytes,
                longest_s=counts.longest_s,
            )
            for (kind, destination), counts in counted.items()
        ]

    def _record(
        self,
        number: int,
        opened: _Open,
        now: Timestamp | None = None,
        duration_s: float = 0.0,
        end: str = "",
        cause: str = "",
        detail: str = "",
        rx_bytes: int = 0,
        tx_bytes: int = 0,
    ) -> ForwardRecord:
        return ForwardRecord(
            connection_id=self._connection_id,
            forward_id=number,
            kind=opened.kind,
            destination=opened.destination,
            origin=opened.origin,
            started_at=opened.started.wall,
            ended_at=None if now is None else now.wall,
            duration_s=duration_s,
            end=end,
            cause=cause,
            detail=_text(detail),
            rx_bytes=rx_bytes,
            tx_bytes=tx_bytes,
        )


def _text(text: str) -> str:
    """One printable line of bounded length: it comes from a client."""
    line = printable(text, REPLACEMENT)
    return line if len(line) <= MAX_TEXT else line[: MAX_TEXT - 1] + "…"
