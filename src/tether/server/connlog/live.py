"""Changes of the connection log, handed on as they are committed to whoever watches.

Law: bounded for each watcher: one that does not keep up loses what waited and has to read the log anew
(`None`). A watcher gets what its viewer may see, as in `queries/listing.py`. Nothing here waits for a
watcher.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from tether.server.connlog.rows import (
    ClientLeft,
    ClientLostAgent,
    Event,
    PathChanged,
    RowClosed,
    RowOpened,
    RowReopened,
    RowRevised,
)
from tether.server.db.tables.connections import ConnectionRow
from tether.server.identity import Identity

MAX_WAITING = 512
"""Changes that wait for one watcher."""

MAX_WATCHERS = 256


class ChangeKind(StrEnum):
    """What happened to a connection."""

    OPENED = "opened"
    CLOSED = "closed"
    REVISED = "revised"
    PATH = "path"


@dataclass(frozen=True, slots=True)
class LiveChange:
    """One change, and the row as it is now."""

    kind: ChangeKind
    row: ConnectionRow


class TooManyWatchers(Exception):
    """There is no room for one more."""


@dataclass(eq=False)
class Watcher:
    """One who watches. `owned` are the workspaces that are the viewer's."""

    viewer: Identity
    owned: frozenset[str] = frozenset()
    _waiting: deque[LiveChange] = field(default_factory=deque)
    _lost: bool = False
    _over: bool = False
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    def sees(self, row: ConnectionRow) -> bool:
        """Whether a row is this viewer's to see."""
        return (
            self.viewer.is_admin or row.user == self.viewer.user or row.workspace_id in self.owned
        )

    def offer(self, change: LiveChange) -> None:
        """Have it wait; of too many, none."""
        if self._lost or not self.sees(change.row):
            return
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.clear()
            self._lost = True
        else:
            self._waiting.append(change)
        self._wake.set()

    def end(self) -> None:
        """There is nothing more to come."""
        self._over = True
        self._wake.set()

    async def some(self, timeout_s: float) -> list[LiveChange] | None:
        """What has waited, in order; [] after `timeout_s` without anything; None: read the log anew.

        Raises:
            StopAsyncIteration: the feed has ended.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._wake.wait()
        except TimeoutError:
            return []
        self._wake.clear()
        if self._over:
            raise StopAsyncIteration
        if self._lost:
            self._lost = False
            return None
        some = list(self._waiting)
        self._waiting.clear()
        return some


class LiveFeed:
    """Passes changes on to those who watch."""

    def __init__(self) -> None:
        self._watchers: set[Watcher] = set()
        self.version = 0
        """Counts up with each change of the log."""

    def publish(self, event: Event) -> None:
        """A change is committed."""
        kind = _kind(event)
        if kind is None:
            return
        self.version += 1
        change = LiveChange(kind, event.row)
        for watcher in self._watchers:
            watcher.offer(change)

    @contextmanager
    def watch(self, viewer: Identity, owned: frozenset[str]) -> Iterator[Watcher]:
        """Watch from now on.

        Raises:
            TooManyWatchers: there is no room.
        """
        if len(self._watchers) >= MAX_WATCHERS:
            raise TooManyWatchers
        watcher = Watcher(viewer, owned)
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)

    @property
    def watchers(self) -> int:
        """How many watch."""
        return len(self._watchers)

    @property
    def longest_queue(self) -> int:
        """Changes that wait for the slowest of them."""
        return max((len(watcher._waiting) for watcher in self._watchers), default=0)

    def close(self) -> None:
        """Send everybody away; the server stops."""
        for watcher in self._watchers:
            watcher.end()


def _kind(event: Event) -> ChangeKind | None:
    match event:
        case RowOpened() | RowReopened():
            return ChangeKind.OPENED
        case RowClosed():
            return ChangeKind.CLOSED
        case RowRevised():
            return ChangeKind.REVISED
        case PathChanged():
            return ChangeKind.PATH
        case ClientLeft() | ClientLostAgent():
            return None
