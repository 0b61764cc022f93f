"""What the tunnel machine says: frames to hand on, carriers to close, and what happened on the way.

Law: types only, closed and frozen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from tether.attribution.evidence import Evidence
from tether.protocol.attachment import Refusal


@dataclass(frozen=True, slots=True)
class Deliver:
    """The next frame of the peer: once, in order. Say `took` when it has been consumed."""

    frame: memoryview


@dataclass(frozen=True, slots=True)
class CloseCarrier:
    """Send `last` (b"" for nothing) on this carrier's stream, then close it."""

    carrier: int
    code: int
    why: str
    last: bytes = b""


@dataclass(frozen=True, slots=True)
class CarrierUp:
    """Both ends have proven themselves. `rtt_s` is the client's measure; None at the agent."""

    carrier: int
    rtt_s: float | None


@dataclass(frozen=True, slots=True)
class CarrierRefused:
    """A carrier did not join. Unless it is proven, `refusal` may be anybody's word."""

    carrier: int
    refusal: Refusal
    proven: bool = False


@dataclass(frozen=True, slots=True)
class CarrierLost:
    """A carrier that was up and not in use has ended, because of `fact`."""

    carrier: int
    fact: Evidence


@dataclass(frozen=True, slots=True)
class Used:
    """This carrier is in use now, without a gap (`before`: instead of that one; 0: the first)."""

    carrier: int
    before: int
    resent_bytes: int


@dataclass(frozen=True, slots=True)
class Detached:
    """The carrier in use has ended, because of `fact`. `wait_s`: how long the tunnel will wait for
    another one; None while one is up and not yet used."""

    carrier: int
    fact: Evidence
    wait_s: float | None


@dataclass(frozen=True, slots=True)
class Resumed:
    """A carrier is in use again."""

    carrier: int
    gap_s: float
    resent_bytes: int


@dataclass(frozen=True, slots=True)
class Answered:
    """The other end answered a ping on this carrier."""

    carrier: int
    rtt_s: float


@dataclass(frozen=True, slots=True)
class RelayRestarting:
    """The relay of this carrier will restart, and carries on until then: move first."""

    carrier: int
    reconnect_in_s: float


@dataclass(frozen=True, slots=True)
class PeerLeft:
    """The peer has nothing more to say and closes: after its last frame was delivered."""


@dataclass(frozen=True, slots=True)
class GaveUp:
    """The tunnel is over, because of `fact`: nobody resumed it, or the peer broke the protocol, or
    has ended it. Comes once."""

    fact: Evidence


PathEvent: TypeAlias = (
    CarrierUp
    | CarrierRefused
    | CarrierLost
    | Used
    | Detached
    | Resumed
    | Answered
    | RelayRestarting
    | GaveUp
)
"""What the owner of a tunnel is told."""

Command: TypeAlias = Deliver | CloseCarrier | PeerLeft | PathEvent
