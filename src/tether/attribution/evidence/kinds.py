"""The closed union of all kinds of facts.

Law: a kind is listed once, here; `KINDS` and the types follow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from tether.attribution.evidence.fact import Fact, UnknownFact
from tether.attribution.evidence.host import (
    ClockStepped,
    Exhausted,
    LoopStalled,
    OomKills,
    Pressure,
    Suspended,
)
from tether.attribution.evidence.network import (
    AddressChanged,
    LinkChanged,
    OthersAnswered,
    PeerReturned,
    RedialFailed,
    RouteChanged,
)
from tether.attribution.evidence.parties import (
    EndedTogether,
    GoodbyeSaid,
    IntentRecorded,
    InternalFailure,
    NeighbourEnded,
    NeverReturned,
    PreviousRunDied,
    QueueOverflowed,
    ReportMissing,
    SignalReceived,
    Superseded,
)
from tether.attribution.evidence.sessions import (
    AccessRefused,
    Authenticated,
    ForwardServed,
    IdeBackendGone,
    IdeChannelsClosed,
    LocalSideClosed,
    PolicyRefused,
    SessionEnded,
    SshDisconnected,
    StdioForwardEnded,
    TerminalDetached,
)
from tether.attribution.evidence.streams import (
    CarrierEnded,
    CutWhenIdle,
    HandshakeTimedOut,
    LogicalStreamEnded,
    ProtocolViolated,
    StreamEnded,
    TcpCounters,
    TunnelResumed,
)

Evidence = (
    GoodbyeSaid
    | LocalSideClosed
    | Authenticated
    | SshDisconnected
    | SessionEnded
    | StreamEnded
    | TcpCounters
    | SignalReceived
    | ProtocolViolated
    | AccessRefused
    | HandshakeTimedOut
    | PreviousRunDied
    | NeverReturned
    | Superseded
    | InternalFailure
    | ReportMissing
    | TerminalDetached
    | PolicyRefused
    | ForwardServed
    | StdioForwardEnded
    | IdeChannelsClosed
    | IdeBackendGone
    | Suspended
    | LoopStalled
    | ClockStepped
    | Pressure
    | OomKills
    | Exhausted
    | AddressChanged
    | RouteChanged
    | LinkChanged
    | RedialFailed
    | OthersAnswered
    | PeerReturned
    | IntentRecorded
    | EndedTogether
    | NeighbourEnded
    | QueueOverflowed
    | LogicalStreamEnded
    | CarrierEnded
    | CutWhenIdle
    | TunnelResumed
    | UnknownFact
)

KINDS: Mapping[str, type[Fact]] = {
    cls.kind: cls for cls in Evidence.__args__ if cls is not UnknownFact
}

F = TypeVar("F", bound=Fact)
