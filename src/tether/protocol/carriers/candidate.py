"""What may be dialled and what came of it: candidates, when to look for more, and the agent's endpoints.

Law: bookkeeping of `selector`, which decides; no I/O, no clock, no randomness of its own. Moments are
monotonic seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tether.attribution.vocabulary import ConnectionMethod
from tether.protocol.backoff import USEFUL_AFTER_S, Backoff
from tether.protocol.carriers.commands import PingCarrier
from tether.protocol.messages.coordination import TRIED_ENDPOINTS

# -- dialling -------------------------------------------------------------------------------

MAX_DIALS = 4
"""Attempts at once, one of them reserved for a relay."""

STAGGER_S = 0.05
"""Between the starts of two direct attempts; a failure lets the next one start at once."""

DIAL_S = 25.0
"""How long an attempt may take; a little longer than the dialler itself waits."""

ASK_S = 10.0
"""How long the server may take to answer."""

FIRST_ASK_S = 1.0
"""How long after a grant without a relay the server is asked for one at the earliest."""

START_S = 20.0
"""How long the first carrier may take."""

STANDBY_S = 15.0
"""The least time between two questions for a relay that would only be a standby."""

DIRECT_AGAIN_S = 15.0
"""While a relay is used, direct endpoints are tried again after this time to twice this time."""

# -- signs of life --------------------------------------------------------------------------

LOOK_S = 1.0
"""How often what the stream has seen is looked at."""

IDLE_PING_S = 5.0
"""After how long a silence the carrier in use is pinged."""

UNACKED_S = 1.0
"""The same, while a frame waits to be acknowledged, or the carrier was busy until then."""

STANDBY_PING_S = 30.0
"""After how long a silence a carrier that is not in use is pinged."""

BUSY_LOOKS = 2
"""A carrier that brought something at so many looks since its last ping was busy."""

ANSWER_S = 3.0
"""How long a ping may stay unanswered."""

PROBE_S = 1.0
"""The same, after a change of the network."""

PROBE_AGAIN_S = 0.2
"""So long after the last symptom of a change all carriers are pinged once more, because answers that
came between its first and its last symptom show nothing."""

# -- moving from one carrier to another -----------------------------------------------------

SETTLE_S = 5.0
"""How long a direct carrier must last before it is used, where the last one was lost just now …"""

FLAPPING_S = 60.0
"""… which means within this time."""

FORGET_S = 60.0
"""How long a silent carrier that is not in use is kept, and a failed relay avoided."""


@dataclass(slots=True)
class Candidate:
    """A relay or an endpoint that was dialled, and the carrier that came of it."""

    number: int
    method: ConnectionMethod
    address: str
    """The relay's URL, or the endpoint."""
    where: str
    """The DERP region, or the endpoint."""
    since: float
    """When it was dialled; once it is `up`, since when it is."""
    up: bool = False
    """Whether the agent has answered on it."""
    restarting: bool = False
    """Whether its relay has said that it will restart."""
    withdrawn: bool = False
    """Whether the agent does not offer its address any more."""
    settles_at: float = 0.0
    """When it may be preferred to a relay."""
    rtt_s: float | None = None
    heard_at: float = 0.0
    pinged_at: float | None = None
    """When the oldest ping went out that nothing has answered yet."""
    patience_s: float = ANSWER_S
    """How long that ping may stay unanswered."""
    news: int = 0
    """At how many looks since it was pinged last it had brought something."""

    def heard(self, at: float) -> None:
        """It was last heard then."""
        self.news += at > self.heard_at
        self.heard_at = max(self.heard_at, at)
        if self.pinged_at is not None and self.heard_at > self.pinged_at:
            self.pinged_at = None

    def ping(self, now: float, patience_s: float) -> PingCarrier:
        """Ask its other end for a sign of life."""
        self.pinged_at = now
        self.patience_s = patience_s
        self.news = 0
        return PingCarrier(self.number)

    def ping_after_s(self, frame_waits: bool) -> float:
        """After how long a silence it is pinged while it is in use."""
        return UNACKED_S if frame_waits or self.news >= BUSY_LOOKS else IDLE_PING_S

    def is_silent(self, now: float) -> bool:
        """Whether a ping was not answered in time."""
        return self.pinged_at is not None and now >= self.pinged_at + self.patience_s

    def is_sound(self, now: float) -> bool:
        """Whether it is up, and nothing speaks against using it."""
        return self.up and not self.restarting and not self.is_silent(now)

    def is_lasting(self, now: float) -> bool:
        """Whether it is sound, and nothing says that it will not stay so."""
        return self.is_sound(now) and not self.withdrawn


class RetrySchedule:
    """When to look again for candidates of one kind: at once at first, then by a backoff."""

    def __init__(self, jitter: Callable[[], float]) -> None:
        """`jitter` draws from [0, 1)."""
        self._backoff = Backoff(first=0.1, most=5.0)
        self._jitter = jitter
        self._free_at = 0.0  # when the last attempt ended
        self._delay = 0.0  # how long to wait from then on
        self._share = 0.0  # what was drawn for that wait

    def begin(self, now: float, delay: float) -> None:
        """Nothing was tried so far; do not before `delay` is over."""
        self._free_at = now
        self._delay = delay

    def ended(self, now: float, lived: float) -> None:
        """An attempt failed (`lived` is 0), or the carrier that it found ended."""
        self._backoff.lived(lived)
        self._share = self._jitter()
        self._free_at = now
        self._delay = 0.0 if lived >= USEFUL_AFTER_S else self._backoff.delay(self._share)

    def hurry(self, now: float) -> None:
        """Something changed: what failed before may work now."""
        self._backoff.lived(USEFUL_AFTER_S)
        self._free_at = now
        self._delay = 0.0

    def due(self, at_least: float) -> float:
        """When to try again, at the earliest `at_least` after the last attempt."""
        return self._free_at + max(self._delay, at_least)

    def due_between(self, least: float) -> float:
        """When to try again, at the earliest `least` to twice `least` after the last attempt."""
        return self.due(least * (1.0 + self._share))


class Endpoints:
    """Where the agent can be dialled, as it says itself, and which of these is to be tried next.

    What is offered is bounded. What is not offered any more is not tried any more. What is new comes
    before what waits to be tried again.
    """

    def __init__(self, offered: Sequence[str]) -> None:
        """All that is offered at first waits to be tried."""
        self.offered = tuple(offered[:TRIED_ENDPOINTS])
        self.next_at = 0.0  # when the next attempt may start, if any endpoint waits
        self._waiting: deque[str] = deque(self.offered)

    @property
    def waiting(self) -> bool:
        """Whether any is still to be tried."""
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
        """Try all of them, first those that wait already."""
        self._waiting = deque(dict.fromkeys([*self._waiting, *self.offered]))

    def rest(self) -> None:
        """Try none for now."""
        self._waiting.clear()

    def take(self, now: float) -> str | None:
        """The next one to try, if it is time for it."""
        if not self._waiting or now < self.next_at:
            return None
        self.next_at = now + STAGGER_S
        return self._waiting.popleft()
