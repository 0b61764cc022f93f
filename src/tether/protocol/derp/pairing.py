"""Who waits for whom at a relay: a table of carriers that have one leg so far, or have been refused.

Law: no I/O and no clock. The second leg of a carrier joins the first. A leg that waits too long is told
so. A refusal reaches a leg whether it comes before the leg or after it. The table is bounded, and
nothing stays in it for longer than its own deadline.
"""

from __future__ import annotations

from dataclasses import dataclass

from tether.attribution.vocabulary import Party
from tether.protocol.timestamp import Timestamp

PAIRING_WAIT_S = 15.0
"""How long a leg waits for the other one."""

DECLINE_KEPT_S = 60.0
"""How long a refusal waits for the client's leg, whose ticket lives no longer."""

MAX_WAITING = 10_000
"""Legs that may wait at once, and refusals that may be kept."""


@dataclass(frozen=True, slots=True)
class CarrierId:
    """One carrier of one tunnel; its two legs bring the same."""

    connection_id: str
    number: int = 1


@dataclass(frozen=True, slots=True)
class Wait:
    """The leg is the first one, and is to wait."""


@dataclass(frozen=True, slots=True)
class JoinLegs:
    """The other leg is here already: join the two."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """The leg is turned away. `message` is one sentence for the user."""

    message: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """This leg has waited too long for the other one."""

    carrier: CarrierId
    leg: Party
    message: str


Answer = Wait | JoinLegs | Refuse


class PairingTable:
    """Carriers between the arrival of their first leg and that of the second."""

    def __init__(self, *, wait_s: float = PAIRING_WAIT_S, capacity: int = MAX_WAITING) -> None:
        self._wait_s = wait_s
        self._capacity = capacity
        self._waiting: dict[CarrierId, tuple[Party, float]] = {}
        """Whose leg waits, and until when; in the order of arrival."""
        self._declined: dict[CarrierId | str, tuple[str, float]] = {}
        """Of a carrier or of a whole tunnel: the message, and until when it is kept."""

    def __len__(self) -> int:
        return len(self._waiting)

    def deadline(self) -> float | None:
        """When (monotonic seconds) to call `expire` next; None for never."""
        oldest = next(iter(self._waiting.values()), None)
        return None if oldest is None else oldest[1]

    def arrive(self, carrier: CarrierId, leg: Party, now: Timestamp) -> Answer:
        """A leg with a good ticket is here. Re-arm the timer from `deadline()`."""
        self._forget(now)
        for key in (carrier, carrier.connection_id):
            if key in self._declined:
                return Refuse(self._declined[key][0])
        first = self._waiting.get(carrier)
        if first is None:
            if len(self._waiting) >= self._capacity:
                return Refuse("the relay is overloaded: try again in a minute")
            self._waiting[carrier] = leg, now.mono + self._wait_s
            return Wait()
        if first[0] is leg:
            return Refuse(f"the {leg}'s end of this tunnel is here already")
        del self._waiting[carrier]
        return JoinLegs()

    def leave(self, carrier: CarrierId, leg: Party) -> None:
        """A waiting leg has gone."""
        if self._waiting.get(carrier, (None,))[0] is leg:
            del self._waiting[carrier]

    def decline(self, carrier: CarrierId, message: str, now: Timestamp) -> bool:
        """Refuse this carrier. True if a leg waits for it, which is to be told."""
        self._keep_refusal(carrier, message, now)
        return self._waiting.pop(carrier, None) is not None

    def decline_all(self, connection_id: str, message: str, now: Timestamp) -> list[CarrierId]:
        """Refuse every carrier of this tunnel. Returns those for which a leg waits, which is to be
        told."""
        self._keep_refusal(connection_id, message, now)
        told = [one for one in self._waiting if one.connection_id == connection_id]
        for one in told:
            del self._waiting[one]
        return told

    def expire(self, now: Timestamp) -> list[GiveUp]:
        """Time has passed. Returns who has waited too long. Re-arm the timer from `deadline()`."""
        over = []
        for carrier, (leg, until) in self._waiting.items():
            if until > now.mono:
                break
            over.append(GiveUp(carrier, leg, _did_not_come(leg, self._wait_s)))
        for one in over:
            del self._waiting[one.carrier]
        return over

    def _keep_refusal(self, key: CarrierId | str, message: str, now: Timestamp) -> None:
        self._forget(now)
        if len(self._declined) < self._capacity:
            self._declined[key] = message, now.mono + DECLINE_KEPT_S

    def _forget(self, now: Timestamp) -> None:
        while self._declined:
            oldest = next(iter(self._declined))
            if self._declined[oldest][1] > now.mono:
                return
            del self._declined[oldest]


def _did_not_come(leg: Party, waited_s: float) -> str:
    if leg is Party.CLIENT:
        return f"the workspace's agent did not come to the relay within {waited_s:.0f} s"
    return f"the client did not come to the relay within {waited_s:.0f} s"
