"""One way of a tunnel, and when to look for another: the parts of `protocol.carriers.selector`.

Law: bookkeeping only; no I/O, no clock, no randomness of its own. Times are monotonic seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tether.attribution.vocabulary import ConnectionMethod
from tether.protocol.backoff import USEFUL_AFTER_S, Backoff
from tether.protocol.carriers.commands import PingCarrier
from tether.protocol.messages.coordination import TRIED_ENDPOINTS

MAX_DIALS = 4
STAGGER_S = 0.05
"""Between the starts of two direct attempts; a failure lets the next one start at once."""

DIAL_S = 25.0
"""How long an attempt may take; a little longer than the dialler itself waits."""

ASK_S = 10.0
"""How long the server may take to answer."""

FIRST_ASK_S = 1.0
"""How long a grant without a relay is left alone."""

START_S = 20.0
"""How long the first carrier may take."""

LOOK_S = 1.0
"""How often what the stream has seen is looked at."""

IDLE_PING_S = 5.0
STANDBY_PING_S = 30.0
UNACKED_S = 1.0
"""How long a frame may wait for its acknowledgement before the carrier is pinged."""

STEADY = 2
"""At so many looks since the last question there was news: if that stops, it is worth another one."""

SETTLE_S = 5.0
FLAPPING_S = 60.0
"""A direct carrier that follows a lost one within the second must last for the first to be used."""

STANDBY_S = 15.0
"""The least time between two questions for a relay that is no more than a standby."""

DIRECT_AGAIN_S = 15.0
"""While relayed, direct endpoints are tried again after this to twice this."""

FORGET_S = 60.0
"""How long a silent carrier that is not in use is kept, and a failed relay avoided."""

ANSWER_S = 3.0
PROBE_S = 1.0
"""How long a ping may stay unanswered; the shorter one after a change of the network."""

AGAIN_S = 0.2
"""So long after the last symptom of a change the carriers are asked once more: what was answered
between its first and its last tells nothing."""


@dataclass(slots=True)
class Candidate:
    number: int
    method: ConnectionMethod
    address: str
    where: str
    since: float
    """When it was dialled; once it is `up`, since when it is."""
    up: bool = False
    leaving: bool = False
    """Its relay has said that it will restart."""
    taken_back: bool = False
    """The agent does not offer its address any more."""
    settles_at: float = 0.0
    rtt_s: float | None = None
    heard_at: float = 0.0
    pinged_at: float | None = None
    """When the ping went out that nothing has answered yet."""
    patience_s: float = ANSWER_S
    steady: int = 0
    """At how many looks since it was asked last something had come."""

    def heard(self, at: float) -> None:
        self.steady += at > self.heard_at
        self.heard_at = max(self.heard_at, at)
        if self.pinged_at is not None and self.heard_at > self.pinged_at:
            self.pinged_at = None

    def ask(self, now: float, patience_s: float) -> PingCarrier:
        """Ask its other end for a sign of life."""
        self.pinged_at, self.patience_s, self.steady = now, patience_s, 0
        return PingCarrier(self.number)

    def quiet_in_use(self, waits: bool) -> float:
        """After how much quiet it is asked while it is used. `waits`: a frame does, for its
        acknowledgement."""
        return UNACKED_S if waits or self.steady >= STEADY else IDLE_PING_S

    def silent(self, now: float) -> bool:
        return self.pinged_at is not None and now >= self.pinged_at + self.patience_s

    def sound(self, now: float) -> bool:
        """Up, and nothing speaks against using it."""
        return self.up and not self.leaving and not self.silent(now)

    def lasts(self, now: float) -> bool:
        """Sound, and nothing says that it will not stay so."""
        return self.sound(now) and not self.taken_back


class RetrySchedule:
    """When to look again for ways of one kind: at once at first, then by a backoff."""

    def __init__(self, jitter: Callable[[], float]) -> None:
        self._backoff = Backoff(first=0.1, most=5.0)
        self._jitter = jitter
        self._free_at = self._delay = self._share = 0.0

    def begin(self, now: float, delay: float) -> None:
        """Nothing was tried so far; do not before `delay` is over."""
        self._free_at, self._delay = now, delay

    def ended(self, now: float, lived: float) -> None:
        """An attempt failed (`lived` 0), or what it found ended."""
        self._backoff.lived(lived)
        self._share = self._jitter()
        self._free_at = now
        self._delay = 0.0 if lived >= USEFUL_AFTER_S else self._backoff.delay(self._share)

    def hurry(self, now: float) -> None:
        """Something changed: what failed before may work now."""
        self._backoff.lived(USEFUL_AFTER_S)
        self._free_at, self._delay = now, 0.0

    def due(self, at_least: float) -> float:
        return self._free_at + max(self._delay, at_least)

    def due_between(self, least: float) -> float:
        return self._free_at + max(self._delay, least * (1.0 + self._share))


class Endpoints:
    """See the module's law. All that is offered at first waits to be tried."""

    def __init__(self, offered: Sequence[str]) -> None:
        self.offered = tuple(offered[:TRIED_ENDPOINTS])
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
        before, self.offered = self.offered, tuple(offered[:TRIED_ENDPOINTS])
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
