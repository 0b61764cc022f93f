"""What the client's choice of carriers asks for, and what it shows.

Law: types only. They are msgspec's, which take a tenth of the time of dataclasses to make, because each
`ssh` waits for that. The client counts carriers up, and never uses a number twice in one tunnel.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from tether.attribution.vocabulary import ConnectionMethod


class RelayTicket(msgspec.Struct, frozen=True):
    """A relay that may be dialled, and what lets one leg in."""

    url: str
    ticket: str
    region: str = ""

    def __repr__(self) -> str:
        return f"RelayTicket(url={self.url!r}, region={self.region!r})"


class DialRelay(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    """Dial this relay and join; answer with `up`, `failed` or `refused`. With `small_segments`, because
    large ones seem to be lost, TCP is to send small ones only."""

    number: int
    relay: RelayTicket
    small_segments: bool = False


class DialDirect(msgspec.Struct, frozen=True):
    """Dial this endpoint of the agent and join; answer likewise."""

    number: int
    endpoint: str
    small_segments: bool = False


class AskServer(msgspec.Struct, frozen=True):
    """Ask for a further relay; answer with `granted`, `denied` or `unasked`."""

    number: int
    region: str
    avoid: tuple[str, ...]
    small_segments: bool = False


class UseCarrier(msgspec.Struct, frozen=True):
    """Carry the tunnel over this carrier from now on."""

    number: int


class Retire(msgspec.Struct, frozen=True):
    """This carrier, or the attempt at one, is not needed any more, and its end is no event."""

    number: int


class PingCarrier(msgspec.Struct, frozen=True):
    """Ask the other end of this carrier for a sign of life; answer with `pong`."""

    number: int


class Carried(msgspec.Struct, frozen=True):
    """This carrier is in use; before, nothing moved for `gap_s`."""

    number: int
    method: ConnectionMethod
    where: str
    gap_s: float = 0.0


class Stalled(msgspec.Struct, frozen=True):
    """Nothing has moved since `since` (monotonic seconds)."""

    since: float
    reason: str


Status: TypeAlias = Carried | Stalled


class Show(msgspec.Struct, frozen=True):
    """What the user would want to know about has changed."""

    status: Status


TIMED_OUT = "timed_out"
"""Nothing was heard for as long as the tunnel may wait."""


class Over(msgspec.Struct, frozen=True):
    """No carrier will be found any more. `cause` and `actor` are the server's, where it named any.

    `code` is `tunnel_over` or `tunnel_unknown`, as the server or the agent said, `turned_away` by the
    server, `failed` before any carrier was up, or `TIMED_OUT`.
    """

    code: str
    message: str
    cause: str = ""
    actor: str = ""


Command: TypeAlias = (
    DialRelay | DialDirect | AskServer | UseCarrier | Retire | PingCarrier | Show | Over
)


class StreamActivity(msgspec.Struct, frozen=True):
    """What the stream has seen."""

    waiting_since: float | None = None
    """Since when (monotonic seconds) the oldest frame waits to be acknowledged."""
    heard_at: dict[int, float] = {}
    """When (monotonic seconds) each carrier last brought something."""
