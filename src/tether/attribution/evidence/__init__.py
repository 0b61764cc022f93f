"""Facts: who saw what, and when. A closed union of frozen dataclasses.

Law: a fact is what a party saw or said, never what it concluded. Facts carry the observer's wall
clock (`at`, unix seconds) for people to read; rules never subtract the clocks of two observers.
`to_record` and `from_record` are the one form in which facts travel and are stored; a kind of a newer
peer survives the round trip as `UnknownFact`. The kinds lie in this package's modules by subject.
"""

from __future__ import annotations

from tether.attribution.evidence.fact import Fact, UnknownFact
from tether.attribution.evidence.host import (
    ClockStepped,
    Exhausted,
    LoopStalled,
    OomKills,
    Pressure,
    Suspended,
)
from tether.attribution.evidence.kinds import KINDS, Evidence, F
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
from tether.attribution.evidence.records import from_record, to_record
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

__all__ = [
    "KINDS",
    "AccessRefused",
    "AddressChanged",
    "Authenticated",
    "CarrierEnded",
    "ClockStepped",
    "CutWhenIdle",
    "EndedTogether",
    "Evidence",
    "Exhausted",
    "F",
    "Fact",
    "ForwardServed",
    "GoodbyeSaid",
    "HandshakeTimedOut",
    "IdeBackendGone",
    "IdeChannelsClosed",
    "IntentRecorded",
    "InternalFailure",
    "LinkChanged",
    "LocalSideClosed",
    "LogicalStreamEnded",
    "LoopStalled",
    "NeighbourEnded",
    "NeverReturned",
    "OomKills",
    "OthersAnswered",
    "PeerReturned",
    "PolicyRefused",
    "Pressure",
    "PreviousRunDied",
    "ProtocolViolated",
    "QueueOverflowed",
    "RedialFailed",
    "ReportMissing",
    "RouteChanged",
    "SessionEnded",
    "SignalReceived",
    "SshDisconnected",
    "StdioForwardEnded",
    "StreamEnded",
    "Superseded",
    "Suspended",
    "TcpCounters",
    "TerminalDetached",
    "TunnelResumed",
    "UnknownFact",
    "from_record",
    "to_record",
]
