"""What the control link tells the rest of the client: the words of `client.control.link`.

Law: types only; msgspec's, which take a tenth of the time to import.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from tether.protocol.messages.derp import DerpMap
from tether.protocol.messages.tunnel import CarrierDenied, CarrierGrant


class Unasked(msgspec.Struct, frozen=True):
    """The question for this carrier did not reach the server, or its answer did not reach us."""

    carrier: int


class Back(msgspec.Struct, frozen=True):
    """The server can be asked again."""


class TurnedAway(msgspec.Struct, frozen=True):
    """The server will not have us any more: no further link is dialled. `message` says why."""

    message: str


class AgentHere(msgspec.Struct, frozen=True):
    """The tunnel's agent says where it can be dialled now."""

    endpoints: tuple[str, ...]
    moved_to: str = ""
    """Its home region, where that is another one than before."""


class AgentLost(msgspec.Struct, frozen=True):
    """Whether the server, which had heard the tunnel's agent, hears it no more: for people. A carrier
    may live on without the server."""

    lost: bool


ControlWord: TypeAlias = (
    CarrierGrant | CarrierDenied | Unasked | Back | TurnedAway | AgentHere | AgentLost | DerpMap
)
