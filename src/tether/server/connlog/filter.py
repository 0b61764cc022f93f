"""Which connections somebody asks for: one object for pages, lists, counts and downloads.

Law: values only; `queries.search` makes conditions of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tether.server.db.tables.connections import ConnectionStatus

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
MAX_FILES = 10_000
"""File operations that one answer lists at most."""

NONE = "none"
"""The word for "there is none" among the values of a filter."""


@dataclass(frozen=True, slots=True)
class Values:
    """Any of `wanted` (none named: any at all), and none of `unwanted`."""

    wanted: tuple[Any, ...] = ()
    unwanted: tuple[Any, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.wanted or self.unwanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSearch:
    """Which connections. Times are unix seconds; None: no bound.

    `lived_*` frame a span that a connection lived in: it began before its end, and is open or ended
    after its beginning.
    """

    values: Mapping[str, Values] = field(default_factory=dict)
    sides: Values = Values()
    text: str = ""
    detached: bool | None = None
    lived_since: float | None = None
    lived_until: float | None = None
    began_since: float | None = None
    began_until: float | None = None
    ended_since: float | None = None
    ended_until: float | None = None
    min_duration_s: float | None = None
    max_duration_s: float | None = None

    def without(self, name: str) -> RowSearch:
        """The same, whatever the values of one filter."""
        if name == "side":
            return replace(self, sides=Values())
        return replace(self, values={key: v for key, v in self.values.items() if key != name})

    def of_ended_ones(self) -> RowSearch | None:
        """The same among connections that are over; None: it asks for none of those."""
        status, closed = self.values.get("status", Values()), str(ConnectionStatus.CLOSED)
        if closed in status.unwanted or (status.wanted and closed not in status.wanted):
            return None
        return replace(self, values={**self.values, "status": Values((closed,))})

    @property
    def fingerprint(self) -> bytes:
        """What a cursor is bound to: the values, and which bounds there are. Bounds that were given as a
        span back from now move between two pages."""
        bounds = [getattr(self, name) is None for name in self.__slots__ if "since" in name]
        durations = (self.min_duration_s, self.max_duration_s)
        said = (
            sorted(self.values.items()),
            self.sides,
            self.text,
            self.detached,
            bounds,
            durations,
        )
        return hashlib.sha256(repr(said).encode()).digest()[:8]
