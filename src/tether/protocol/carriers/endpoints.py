"""Where the agent can be dialled, as it says itself, and which of that is to be tried next.

Law: bookkeeping only, a part of `protocol.carriers.selector`; no I/O, no clock. What is offered is
bounded. What is offered no more is not tried any more; what is new comes before what waits to be
tried again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from tether.protocol.carriers.candidate import MAX_ENDPOINTS, STAGGER_S


class Endpoints:
    """See the module's law. All that is offered at first waits to be tried."""

    def __init__(self, offered: Sequence[str]) -> None:
        self.offered = tuple(offered[:MAX_ENDPOINTS])
        self.next_at = 0.0
        """When the next attempt may start, if any endpoint waits."""
        self._waiting: deque[str] = deque(self.offered)

    @property
    def waiting(self) -> bool:
        """Whether any is to be tried still."""
        return bool(self._waiting)

    @property
    def idle(self) -> bool:
        """Whether all could be tried again: there are some, and none waits."""
        return bool(self.offered) and not self._waiting

    def offer(self, offered: Sequence[str]) -> None:
        """This is where the agent can be dialled now."""
        before, self.offered = self.offered, tuple(offered[:MAX_ENDPOINTS])
        new = [one for one in self.offered if one not in before]
        kept = [one for one in self._waiting if one in self.offered]
        self._waiting = deque([*new, *kept])

    def again(self) -> None:
        """Try all of them, those first that wait already."""
        self._waiting = deque(dict.fromkeys([*self._waiting, *self.offered]))

    def rest(self) -> None:
        """Try none for now."""
        self._waiting.clear()

    def take(self, now: float) -> str | None:
        """The next one to try, if its turn has come."""
        if not self._waiting or now < self.next_at:
            return None
        self.next_at = now + STAGGER_S
        return self._waiting.popleft()
