"""What the client's choice of ways asks for, and what it shows: the words of `protocol.paths`.

Law: types only. A carrier's number is counted up by the client and never used twice in one tunnel.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from tether.attribution.vocabulary import ConnectionMethod


@dataclass(frozen=True, slots=True)
class RelayTicket:
    """A leg that may be dialled."""

    url: str
    ticket: str = field(repr=False)
    region: str = ""


@dataclass(frozen=True, slots=True)
class DialRelay:
    """Dial this relay and attach; answer with `up`, `failed` or `refused`."""

    number: int
    relay: RelayTicket


@dataclass(frozen=True, slots=True)
class DialDirect:
    """Dial this endpoint of the agent and attach; answer likewise."""

    number: int
    endpoint: str


@dataclass(frozen=True, slots=True)
class AskServer:
    """Ask for a further relay; answer with `granted`, `denied` or `unasked`."""

    number: int
    region: str
    avoid: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Use:
    """Carry the tunnel over this carrier from now on."""

    number: int


@dataclass(frozen=True, slots=True)
class Retire:
    """This carrier, or the attempt at one, is not needed any more: its end is no event."""

    number: int


@dataclass(frozen=True, slots=True)
class Ping:
    """Ask the other end of this carrier for a sign of life; answer with `pong`."""

    number: int


@dataclass(frozen=True, slots=True)
class Carried:
    """The tunnel is carried by this; nothing moved for `gap_s` before."""

    number: int
    method: ConnectionMethod
    where: str
    gap_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nothing moves since `since` (monotonic seconds)."""

    since: float
    reason: str


Status: TypeAlias = Carried | Waiting


@dataclass(frozen=True, slots=True)
class Show:
    """What the user would want to know has changed."""

    status: Status


@dataclass(frozen=True, slots=True)
class Over:
    """No way will be found any more. `cause` and `actor` are the server's word, where it had one."""

    code: str
    message: str
    cause: str = ""
    actor: str = ""


Command: TypeAlias = DialRelay | DialDirect | AskServer | Use | Retire | Ping | Show | Over


@dataclass(frozen=True, slots=True)
class Sight:
    """What the stream has seen: the oldest frame that is not acknowledged, and each carrier's last
    sign of life (monotonic seconds)."""

    waiting_since: float | None = None
    heard_at: dict[int, float] = field(default_factory=dict)
