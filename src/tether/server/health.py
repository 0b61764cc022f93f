"""Whether the database can be written: probed at most once a second, and watched by the beat of the run.

Law: one answer is shared by everybody who asks while it is fresh, so that nobody can make the server
write as fast as they can ask. One failed beat is bad luck; three in a row are an outage: whoever is
connected is let go with that cause, and let in again when a beat works.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tether.log import get_logger
from tether.net.clock import Clock
from tether.server.db.store import Store, StoreUnavailable

FRESH_FOR_S = 1.0

MISSED_BEATS = 3

_log = get_logger("server")


class DatabaseHealth:
    """The last probe of the database."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._lock = asyncio.Lock()
        self._probed_at: float | None = None
        self._problem = ""

    async def check(self) -> None:
        """Return if a write works.

        Raises:
            StoreUnavailable: it does not.
        """
        async with self._lock:
            now = self._clock.now()
            if self._probed_at is None or now.mono - self._probed_at >= FRESH_FOR_S:
                self._probed_at = now.mono
                self._problem = await self._probe(now.wall)
            if self._problem:
                raise StoreUnavailable(self._problem)

    async def _probe(self, at: float) -> str:
        try:
            await self._store.probe(at)
        except StoreUnavailable as wrong:
            return str(wrong)
        return ""


class OutageWatch:
    """Recognises an outage of the database by the beats that are written anyway. Call it for each."""

    def __init__(
        self, *, lost: Callable[[StoreUnavailable], None], back: Callable[[], None]
    ) -> None:
        """`lost` is called once an outage, `back` when it is over."""
        self._lost = lost
        self._back = back
        self._missed = 0

    def beat_failed(self, wrong: StoreUnavailable) -> None:
        """A beat could not be written."""
        self._missed += 1
        _log.error("the database cannot be written", error=str(wrong), beats_missed=self._missed)
        if self._missed == MISSED_BEATS:
            self._lost(wrong)

    def beat_worked(self) -> None:
        """A beat was written."""
        if self._missed >= MISSED_BEATS:
            self._back()
        self._missed = 0
