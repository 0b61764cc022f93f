"""Who may say what: the facts that a client can have seen, and the causes that a party may declare.

Law: pure and small. A client runs on a machine that is not ours, so it is heard about itself and about
its own streams only. Whoever listens leaves out what a client may not say, and never corrects it.
"""

from __future__ import annotations

from collections.abc import Mapping

from tether.attribution import evidence as ev
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import Party

_OWN_CAUSES: Mapping[Party, tuple[str, ...]] = {
    Party.CLIENT: ("client.",),
    Party.RELAY: ("relay.", "server."),  # an embedded relay stops with its server
}
"""Party -> the beginnings of the codes that it may declare. A party that is missing may declare any."""

_CLIENT_SEES = (
    ev.LocalSideClosed,
    ev.StreamEnded,
    ev.CarrierEnded,
    ev.TunnelResumed,
    ev.TcpCounters,
    ev.GoodbyeSaid,
)
"""What a client sees of its own streams."""

_CLIENT_SUFFERS = (
    ev.SignalReceived,
    ev.PreviousRunDied,
    ev.InternalFailure,
    ev.Suspended,
    ev.LoopStalled,
    ev.ClockStepped,
    ev.Pressure,
    ev.OomKills,
    ev.Exhausted,
    ev.AddressChanged,
    ev.RouteChanged,
    ev.LinkChanged,
    ev.RedialFailed,
    ev.OthersAnswered,
)
"""What a client may say of its own process, machine and network."""

_ENDS = (
    ev.GoodbyeSaid,
    ev.LocalSideClosed,
    ev.SshDisconnected,
    ev.NoCommonAlgorithm,
    ev.StreamEnded,
    ev.ProtocolViolated,
    ev.HandshakeTimedOut,
    ev.PreviousRunDied,
    ev.NeverReturned,
    ev.Superseded,
    ev.InternalFailure,
    ev.IdeChannelsClosed,
    ev.IdeBackendGone,
    ev.QueueOverflowed,
)
"""Facts that are an end, or that tell of one."""


def may_declare(party: Party, cause: str) -> bool:
    """Whether `cause` (a catalogue code, "" for none) is `party`'s to declare."""
    return not cause or cause.startswith(_OWN_CAUSES.get(party, ("",)))


def client_may_say(fact: Evidence) -> bool:
    """Whether a client can have seen `fact`, or have said it of itself."""
    if isinstance(fact, ev.GoodbyeSaid):
        return fact.by is not Party.CLIENT or may_declare(Party.CLIENT, fact.cause)
    if isinstance(fact, _CLIENT_SUFFERS):
        return fact.party is Party.CLIENT
    return isinstance(fact, _CLIENT_SEES)


def is_hearsay(fact: Evidence) -> bool:
    """Whether a client that hands in `fact` repeats what another party is said to have said."""
    return isinstance(fact, ev.GoodbyeSaid) and fact.by is not Party.CLIENT


def tells_an_end(fact: Evidence) -> bool:
    """Whether `fact` is an end, not only what went before one."""
    return isinstance(fact, _ENDS)
