"""What the tunnel machine says: frames to hand on, carriers to close, and what happened to carriers.

Law: types only, closed and frozen. They are msgspec's, which take a tenth of the time of dataclasses to
make, because each `ssh` waits for that.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from tether.attribution.evidence import Evidence
from tether.protocol.tunnel.join import JoinRefused


class DeliverFrame(msgspec.Struct, frozen=True):
    """The next frame of the peer: once, in order. Say `consumed` when it has been."""

    frame: memoryview


class CloseCarrier(msgspec.Struct, frozen=True):
    """Send `last` (b"" for nothing) on this carrier's stream, then close it."""

    carrier: int
    code: int
    why: str
    last: bytes = b""


class CarrierUp(msgspec.Struct, frozen=True):
    """Both ends have proven themselves. `rtt_s` is the client's measure; None at the agent."""

    carrier: int
    rtt_s: float | None


class CarrierRefused(msgspec.Struct, frozen=True):
    """A carrier did not join. Anybody may have made a `refusal` that is not proven."""

    carrier: int
    refusal: JoinRefused
    proven: bool = False


class CarrierLost(msgspec.Struct, frozen=True):
    """A carrier that was up and not in use has ended, because of `fact`."""

    carrier: int
    fact: Evidence


class Used(msgspec.Struct, frozen=True):
    """This carrier is in use now, without a gap, instead of `before` (0: it is the first one)."""

    carrier: int
    before: int
    resent_bytes: int


class Detached(msgspec.Struct, frozen=True):
    """The carrier in use has ended, because of `fact`. The tunnel waits for another one for `wait_s`;
    None while one is up that is not used yet."""

    carrier: int
    fact: Evidence
    wait_s: float | None


class Resumed(msgspec.Struct, frozen=True):
    """A carrier is in use again."""

    carrier: int
    gap_s: float
    resent_bytes: int


class Answered(msgspec.Struct, frozen=True):
    """The other end answered a ping on this carrier."""

    carrier: int
    rtt_s: float


class RelayRestarting(msgspec.Struct, frozen=True):
    """The relay of this carrier will restart, and carries on until then: move first."""

    carrier: int
    reconnect_in_s: float


class PeerLeft(msgspec.Struct, frozen=True):
    """The peer has nothing more to say and closes: after its last frame was delivered."""


class GaveUp(msgspec.Struct, frozen=True):
    """The tunnel is over, because of `fact`: nobody resumed it, or the peer broke the protocol or has
    ended it. Comes once."""

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

Command: TypeAlias = DeliverFrame | CloseCarrier | PeerLeft | PathEvent
