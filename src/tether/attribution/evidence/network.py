"""What the network did, as a party's own kernel, or its next dial, told it.

Law: see `evidence`. `party` is whose network it is. Collectors hand these in as those of `host`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tether.attribution.evidence.fact import Fact
from tether.attribution.vocabulary import DialStage, Party


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressChanged(Fact):
    """An address went or came. `ours`: our stream ran from the one that went."""

    kind: ClassVar[str] = "address_changed"
    party: Party
    removed: str = ""
    added: str = ""
    ours: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteChanged(Fact):
    """The way to the peer changed: it leads over `interface` now ("" where there is none).

    `tunnel`: that is (or the one before was) a VPN's device.
    """

    kind: ClassVar[str] = "route_changed"
    party: Party
    interface: str = ""
    tunnel: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkChanged(Fact):
    """The interface that the stream ran over lost its carrier (`up` false) or got it back."""

    kind: ClassVar[str] = "link_changed"
    party: Party
    interface: str
    up: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RedialFailed(Fact):
    """`party` dialled `peer` after the end, and failed at `stage`. `status` is an HTTP status or 0."""

    kind: ClassVar[str] = "redial_failed"
    party: Party
    peer: Party
    stage: DialStage
    error: str = ""
    status: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OthersAnswered(Fact):
    """When the stream had fallen silent, `party` asked the `asked` other peers that it talked to, on
    streams of their own, and so many answered at once."""

    kind: ClassVar[str] = "others_answered"
    party: Party
    asked: int
    answered: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerReturned(Fact):
    """`party` dialled again after `after_s` seconds: the same run or a new one, from the same address
    or another, on the same boot or another (None where it cannot be told)."""

    kind: ClassVar[str] = "peer_returned"
    party: Party
    after_s: float
    same_run: bool
    same_address: bool | None = None
    same_boot: bool | None = None
