"""Who waits for whom at a relay: a table of tunnels that have one leg so far, or a refusal on file.

Law: no I/O and no clock. A leg arrives once; the second one joins the first; a leg that waits too
long is told so; a refusal reaches the legs whichever comes first. The
table is bounded, and nothing stays in it for longer than its own deadline.
"""

from __future__ import annotations

from dataclasses import dataclass

from tether.attribution.vocabulary import Party
from tether.protocol.instant import Instant

PAIRING_WAIT_S = 15.0
"""How long a leg waits for the other one."""

DECLINE_KEPT_S = 60.0
"""How long a refusal waits for the client's leg: as long as its ticket lives."""

MAX_WAITING = 10_000


@dataclass(frozen=True, slots=True)
class Wait:
    """The leg is the first one: it waits."""


@dataclass(frozen=True, slots=True)
class Join:
    """The other leg is here already: join the two."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """The leg is not wanted. `message` is one sentence for the user."""

    message: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """This leg has waited too long for the other one."""

    connection_id: str
    leg: Party
    message: str


Answer = Wait | Join | Refuse


class PairingTable:
    """See the module's law."""

    def __init__(self, *, wait_s: float = PAIRING_WAIT_S, capacity: int = MAX_WAITING) -> None:
        self._wait_s, self._capacity = wait_s, capacity
        self._waiting: dict[str, tuple[Party, float]] = {}  # in the order of arrival
        self._declined: dict[str, tuple[str, float]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def deadline(self) -> float | None:
        """When (monotonic seconds) to call `expire` next; None for never."""
        oldest = next(iter(self._waiting.values()), None)
        return None if oldest is None else oldest[1]

    def arrive(self, connection_id: str, leg: Party, now: Instant) -> Answer:
        """A leg with a good ticket is here. Re-arm the timer from `deadline()`."""
        self._forget(now)
        if connection_id in self._declined:
            return Refuse(self._declined[connection_id][0])
        first = self._waiting.get(connection_id)
        if first is None:
            if len(self._waiting) >= self._capacity:
                return Refuse("the relay is overloaded: try again in a minute")
            self._waiting[connection_id] = leg, now.mono + self._wait_s
            return Wait()
        if first[0] is leg:
            return Refuse(f"the {leg}'s end of this tunnel is here already")
        del self._waiting[connection_id]
        return Join()

    def leave(self, connection_id: str, leg: Party) -> None:
        """A waiting leg has gone."""
        if self._waiting.get(connection_id, (None,))[0] is leg:
            del self._waiting[connection_id]

    def decline(self, connection_id: str, message: str, now: Instant) -> bool:
        """This tunnel is not to be; True if a leg waits for it, which is to be told."""
        self._forget(now)
        if len(self._declined) < self._capacity:
            self._declined[connection_id] = message, now.mono + DECLINE_KEPT_S
        return self._waiting.pop(connection_id, None) is not None

    def expire(self, now: Instant) -> list[GiveUp]:
        """Time has passed: who has waited too long. Re-arm the timer from `deadline()`."""
        over = []
        for connection_id, (leg, until) in self._waiting.items():
            if until > now.mono:
                break
            over.append(GiveUp(connection_id, leg, _did_not_come(leg, self._wait_s)))
        for one in over:
            del self._waiting[one.connection_id]
        return over

    def _forget(self, now: Instant) -> None:
        while self._declined:
            oldest = next(iter(self._declined))
            if self._declined[oldest][1] > now.mono:
                return
            del self._declined[oldest]


def _did_not_come(leg: Party, waited_s: float) -> str:
    if leg is Party.CLIENT:
        return f"the workspace's agent did not come to the relay within {waited_s:.0f} s"
    return f"the client did not come to the relay within {waited_s:.0f} s"
