"""What the client's choice of ways asks for, and what it shows.

Law: types only; msgspec's, which take a tenth of the time to import: each `ssh` waits for them. A
carrier's number is counted up by the client and never used twice in one tunnel.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from tether.attribution.vocabulary import ConnectionMethod


class RelayTicket(msgspec.Struct, frozen=True):
    """A leg that may be dialled."""

    url: str
    ticket: str
    region: str = ""

    def __repr__(self) -> str:
        return f"RelayTicket(url={self.url!r}, region={self.region!r})"


class DialRelay(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    """Dial this relay and attach; answer with `up`, `failed` or `refused`. `small`: what is large seems
    to be lost on the way, so TCP is to send small segments only."""

    number: int
    relay: RelayTicket
    small: bool = False


class DialDirect(msgspec.Struct, frozen=True):
    """Dial this endpoint of the agent and attach; answer likewise."""

    number: int
    endpoint: str
    small: bool = False


class AskServer(msgspec.Struct, frozen=True):
    """Ask for a further relay; answer with `granted`, `denied` or `unasked`."""

    number: int
    region: str
    avoid: tuple[str, ...]
    small: bool = False


class UseCarrier(msgspec.Struct, frozen=True):
    """Carry the tunnel over this carrier from now on."""

    number: int


class Retire(msgspec.Struct, frozen=True):
    """This carrier, or the attempt at one, is not needed any more: its end is no event."""

    number: int


class PingCarrier(msgspec.Struct, frozen=True):
    """Ask the other end of this carrier for a sign of life; answer with `pong`."""

    number: int


class Carried(msgspec.Struct, frozen=True):
    """The tunnel is carried by this; nothing moved for `gap_s` before."""

    number: int
    method: ConnectionMethod
    where: str
    gap_s: float = 0.0


class Stalled(msgspec.Struct, frozen=True):
    """Nothing moves since `since` (monotonic seconds)."""

    since: float
    reason: str


Status: TypeAlias = Carried | Stalled


class Show(msgspec.Struct, frozen=True):
    """What the user would want to know has changed."""

    status: Status


TIMED_OUT = "timed_out"
"""Nothing was heard for as long as the tunnel may wait."""


class Over(msgspec.Struct, frozen=True):
    """No way will be found any more. `cause` and `actor` are the server's word, where it had one.

    `code` is `tunnel_over` or `tunnel_unknown` as the server or the agent said, `turned_away` by the
    server, `failed` before anything was up, or `TIMED_OUT`.
    """

    code: str
    message: str
    cause: str = ""
    actor: str = ""


Command: TypeAlias = (
    DialRelay | DialDirect | AskServer | UseCarrier | Retire | PingCarrier | Show | Over
)


class StreamActivity(msgspec.Struct, frozen=True):
    """What the stream has seen: the oldest frame that is not acknowledged, and each carrier's last
    sign of life (monotonic seconds)."""

    waiting_since: float | None = None
    heard_at: dict[int, float] = {}
