"""Whether a write works, asked at most once a second.

Law: an answer is shared by everybody who asks while it is fresh, so that nobody can make the server
write as fast as they can ask.
"""

from __future__ import annotations

import asyncio

from tether.net.clock import Clock
from tether.server.db.store import Store, StoreUnavailable

FRESH_FOR_S = 1.0


class Readiness:
    """The last probe of the store."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._lock = asyncio.Lock()
        self._asked_at: float | None = None
        self._wrong: str = ""

    async def check(self) -> None:
        """Return if a write works.

        Raises:
            StoreUnavailable: it does not.
        """
        async with self._lock:
            now = self._clock.now()
            if self._asked_at is None or now.mono - self._asked_at >= FRESH_FOR_S:
                self._asked_at, self._wrong = now.mono, await self._probe(now.wall)
            if self._wrong:
                raise StoreUnavailable(self._wrong)

    async def _probe(self, at: float) -> str:
        try:
            await self._store.probe(at)
        except StoreUnavailable as wrong:
            return str(wrong)
        return ""
