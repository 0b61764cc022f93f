"""Standing: who can have seen or done what. All else that a party says is hearsay.

Law: pure, and total: every kind of fact has a row, and every witness a cell in it. A party is heard
about itself and about what reached it on streams of its own; hearsay is kept and shown, never judged.
What the server did, and who asked it for that, comes from the server's own records alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tether.attribution import evidence as ev
from tether.attribution.causes.catalogue import PROTOCOL_ERRORS, cause_of
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import Initiator, Party, Policy, Vantage

CLOCK_ERROR_S = 86_400.0
"""By so much a witness's wall clock may be wrong: a machine that is further off has no TLS either."""

# -- who may say what of whom -------------------------------------------------------------

ALL = frozenset(Party)
NOBODY: frozenset[Party] = frozenset()
AGENT = frozenset({Party.AGENT})
CLIENT = frozenset({Party.CLIENT})
RELAY = frozenset({Party.RELAY})


@dataclass(frozen=True, slots=True)
class Standing:
    """Of whom each party can witness one kind of fact (of whom: see `_SUBJECT`). `NOBODY`: it cannot."""

    agent: frozenset[Party] = NOBODY
    client: frozenset[Party] = NOBODY
    relay: frozenset[Party] = NOBODY
    server: frozenset[Party] = ALL

    def of(self, witness: Vantage) -> frozenset[Party]:
        """The cell of one witness."""
        match witness:
            case Vantage.AGENT:
                return self.agent
            case Vantage.CLIENT:
                return self.client
            case Vantage.RELAY:
                return self.relay
            case Vantage.SERVER:
                return self.server


_OF_ITSELF = Standing(agent=AGENT, client=CLIENT, relay=RELAY)
"""What happened to a party's own program and machine."""

_OF_A_STREAM = Standing(agent=ALL, client=ALL, relay=ALL)
"""What a party's own kernel, and its own reader, saw of a stream of its own."""

_OF_SSH = Standing(agent=ALL)
"""What the agent saw of SSH connections, and of processes, as the one that serves them."""

_OF_RECORDS = Standing()
"""What only the server's records hold."""

STANDING: Mapping[type[ev.Fact], Standing] = {
    ev.GoodbyeSaid: Standing(
        agent=frozenset({Party.AGENT, Party.CLIENT, Party.RELAY}),
        client=frozenset({Party.CLIENT, Party.AGENT, Party.RELAY}),
        relay=frozenset({Party.RELAY}),
    ),
    ev.SignalReceived: _OF_ITSELF,
    ev.PreviousRunDied: _OF_ITSELF,
    ev.InternalFailure: _OF_ITSELF,
    ev.Suspended: _OF_ITSELF,
    ev.LoopStalled: _OF_ITSELF,
    ev.ClockStepped: _OF_ITSELF,
    ev.Pressure: _OF_ITSELF,
    ev.OomKills: _OF_ITSELF,
    ev.Exhausted: _OF_ITSELF,
    ev.AddressChanged: _OF_ITSELF,
    ev.RouteChanged: _OF_ITSELF,
    ev.LinkChanged: _OF_ITSELF,
    ev.RedialFailed: _OF_ITSELF,
    ev.OthersAnswered: _OF_ITSELF,
    ev.StreamEnded: _OF_A_STREAM,
    ev.TcpCounters: _OF_A_STREAM,
    ev.CarrierEnded: _OF_A_STREAM,
    ev.TunnelResumed: _OF_A_STREAM,
    ev.ProtocolViolated: Standing(agent=ALL, relay=ALL),
    ev.HandshakeTimedOut: Standing(agent=CLIENT, relay=ALL),
    ev.QueueOverflowed: Standing(agent=ALL, relay=ALL),
    ev.NeverReturned: Standing(agent=CLIENT),
    ev.LocalSideClosed: Standing(client=ALL),
    ev.Authenticated: _OF_SSH,
    ev.HandshakeUnfinished: _OF_SSH,
    ev.NoCommonAlgorithm: _OF_SSH,
    ev.SshDisconnected: Standing(agent=CLIENT),
    ev.SessionEnded: _OF_SSH,
    ev.AccessRefused: _OF_SSH,
    ev.TerminalDetached: _OF_SSH,
    ev.PolicyRefused: _OF_SSH,
    ev.ForwardServed: _OF_SSH,
    ev.StdioForwardEnded: _OF_SSH,
    ev.IdeChannelsClosed: _OF_SSH,
    ev.IdeBackendGone: _OF_SSH,
    ev.LogicalStreamEnded: _OF_SSH,
    ev.Superseded: _OF_RECORDS,
    ev.ReportMissing: _OF_RECORDS,
    ev.IntentRecorded: _OF_RECORDS,
    ev.EndedTogether: _OF_RECORDS,
    ev.NeighbourEnded: _OF_RECORDS,
    ev.CutWhenIdle: _OF_RECORDS,
    ev.PeerReturned: _OF_RECORDS,
    ev.UnknownFact: _OF_RECORDS,  # no rule reads it
}
"""Kind of fact -> who can witness it. A test holds it total over `Evidence`."""

_SUBJECT = ("by", "party")
"""The fields that say of whom a fact is. One without is of the witness's own stream or session."""


# -- which words are whose ----------------------------------------------------------------

_PREFIXES: Mapping[str, Party | None] = {
    "agent": Party.AGENT,
    "session": Party.AGENT,
    "ide": Party.AGENT,
    "policy": Party.AGENT,
    "auth": Party.AGENT,
    "client": Party.CLIENT,
    "relay": Party.RELAY,
    "server": Party.SERVER,
    "workspace": Party.SERVER,
    "coordination": Party.SERVER,
    "network": None,
    "unknown": None,
}
"""First part of a cause's code -> whose doing it is, where it is not the server's decision."""

_CONCLUDED_BY_AGENT = ("auth.certificate_expired",)
"""The server set the date; the agent is who refuses."""

_ACTORS: Mapping[Party, tuple[str, ...]] = {
    Party.AGENT: (
        "signal:",
        "signal from ",
        "kernel:",
        "policy:terminal-idle",
        *(f"policy:{policy}" for policy in Policy),
    ),
    Party.CLIENT: ("signal:", "signal from ", "kernel:"),
    Party.RELAY: ("signal:", "signal from ", "kernel:"),
    Party.SERVER: ("",),
}
"""Party -> the beginnings of the actors that it can know. Total over `Party`."""

_SESSIONS = ("session.",)
"""Causes of which an agent can name a user, whom it has authenticated itself."""

_OWN_WISH: Mapping[Party, tuple[str, ...]] = {Party.CLIENT: ("session.detached",)}
"""Causes named after what they end, that this party brings about all the same: a page that detaches."""

_SAID_ON: Mapping[Party, tuple[str, ...]] = {
    Party.CLIENT: ("client.",),
    Party.RELAY: ("relay.", "server."),  # an embedded relay stops with its server
}
"""Party -> the beginnings of the codes that it may say on a stream. One that is missing may say any: an
agent tells its clients why the server had it end them."""


def doer_of(cause: str) -> Party | None:
    """Whose doing a cause is; None for the network's, or nobody's that is known."""
    row = cause_of(cause)
    prefix = row.code.partition(".")[0]
    decided = row.initiator is Initiator.SERVER and row.code not in _CONCLUDED_BY_AGENT
    return Party.SERVER if decided and prefix != "relay" else _PREFIXES[prefix]


def may_say(party: Party, cause: str) -> bool:
    """Whether `party` may say `cause` (a catalogue code, "" for none) to the other end of a stream."""
    return not cause or cause.startswith(_SAID_ON.get(party, ("",)))


def can_know(party: Party, cause: str, actor: str) -> bool:
    """Whether `cause` is `party`'s own doing, and `actor` somebody of whom it can know."""
    if party is Party.SERVER:
        return True
    if party is Party.AGENT and cause == PROTOCOL_ERRORS[Party.CLIENT] and not actor:
        return True  # it reads what its client sends: see `ProtocolViolated`
    if cause and doer_of(cause) not in (party, None) and cause not in _OWN_WISH.get(party, ()):
        return False
    if party is Party.AGENT and actor.startswith("user:") and cause.startswith(_SESSIONS):
        return True
    return not actor or actor.startswith(_ACTORS[party])


_PASSED_ON: Mapping[Vantage, frozenset[Vantage]] = {
    Vantage.AGENT: frozenset({Vantage.RELAY, Vantage.CLIENT}),
    Vantage.CLIENT: frozenset({Vantage.RELAY}),
    Vantage.RELAY: frozenset(),
    Vantage.SERVER: frozenset(Vantage),
}
"""Reporter -> whose testimony it passes on: a relay tells both ends how a carrier ended, and a client
tells its agent why it leaves. What nobody else confirms makes no verdict sure: the judge sees to that
(`server.connlog.judge`). Total."""


# -- the judgement -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Lifetime:
    """When what is told can have happened, by the server's clock in unix seconds: from the beginning of
    the connection to the receipt of the report."""

    since: float = float("-inf")
    until: float = float("inf")

    def covers(self, at: float) -> bool:
        """Whether a witness whose clock may be wrong can have seen something at `at`."""
        return self.since - CLOCK_ERROR_S <= at <= self.until + CLOCK_ERROR_S


ANY_TIME = Lifetime()


def has_standing(reporter: Vantage, fact: Evidence, lifetime: Lifetime = ANY_TIME) -> bool:
    """Whether `fact` is testimony, and no hearsay.

    Args:
        reporter: who hands it in, as it was authenticated. The server passes on what others said on
            control links of theirs: that is judged as their testimony.
        fact: what it says.
        lifetime: when it can have happened; the server's own clock is right.
    """
    if reporter is not Vantage.SERVER:
        passed_on = fact.vantage in _PASSED_ON[reporter]
        if not (fact.vantage is reporter or passed_on) or not lifetime.covers(fact.at):
            return False
    return _can_witness(fact.vantage, fact) and _words_are_known(fact)


def _can_witness(witness: Vantage, fact: Evidence) -> bool:
    of = STANDING[type(fact)].of(witness)
    subject = next((getattr(fact, name) for name in _SUBJECT if hasattr(fact, name)), None)
    return bool(of) if subject is None else subject in of


def _words_are_known(fact: Evidence) -> bool:
    match fact:
        case ev.GoodbyeSaid(by=by, cause=cause, actor=actor):
            return can_know(by, cause, actor)
        case (
            ev.SessionEnded(cause=cause, actor=actor)
            | ev.LogicalStreamEnded(cause=cause, actor=actor)
        ):
            return can_know(Party(str(fact.vantage)), cause, actor)
        case _:
            return True


def is_heard(fact: Evidence) -> bool:
    """Whether a client that hands in `fact` repeats what another party said to it."""
    return isinstance(fact, ev.GoodbyeSaid) and fact.by is not Party.CLIENT


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


def tells_an_end(fact: Evidence) -> bool:
    """Whether `fact` is an end, not only what went before one."""
    return isinstance(fact, _ENDS)
