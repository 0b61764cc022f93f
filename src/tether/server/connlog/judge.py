"""From the testimonies on file about one end to its verdict, and to the columns of its row.

Law: pure. A reporter may hand in facts of its own vantages only, a client only what it can have seen;
what a client reports that others said is judged only where no other party reports an end. The facts of
all reporters are judged together, their symptoms never.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tether.attribution.admissibility import client_may_say, is_hearsay, tells_an_end
from tether.attribution.causes.catalogue import cause_of
from tether.attribution.classify import Verdict, classify
from tether.attribution.evidence import (
    EndedTogether,
    Evidence,
    GoodbyeSaid,
    LocalSideClosed,
    NeighbourEnded,
    NeverReturned,
    PeerReturned,
    PreviousRunDied,
    ReportMissing,
    StreamEnded,
)
from tether.attribution.vocabulary import ConnectType, Party, Reason, Vantage
from tether.server.db.tables.connections import ConnectionRow

MAY_CLAIM: Mapping[Vantage, frozenset[Vantage]] = {
    # an agent hears its client's goodbyes and its relay's messages, and passes them on
    Vantage.AGENT: frozenset({Vantage.AGENT, Vantage.RELAY, Vantage.CLIENT}),
    Vantage.CLIENT: frozenset({Vantage.CLIENT, Vantage.RELAY}),
    Vantage.RELAY: frozenset({Vantage.RELAY}),
    Vantage.SERVER: frozenset(Vantage),
}
"""Reporter -> the vantages whose facts it may hand in. Total over `Vantage`."""


@dataclass(frozen=True, slots=True)
class Testimony:
    """What one reporter handed in at one time."""

    reporter: Vantage
    received_at: float
    facts: tuple[Evidence, ...]
    symptoms: tuple[Evidence, ...] = ()
    carrier: int | None = None
    """Of what a relay reports: the carrier that ended."""


def classify_end(
    connect_type: ConnectType, testimonies: Iterable[Testimony], last_carrier: int | None = None
) -> Verdict:
    """Judge one end from everything on file about it.

    Args:
        connect_type: which parties the connection joined.
        testimonies: everything on file.
        last_carrier: the carrier that was in use last, as far as the agent has reported; None: none
            was reported.
    """
    relevant = about_the_end(testimonies, last_carrier)
    admitted = [(one.reporter, admissible(one.reporter, one.facts)) for one in relevant]
    others_report = any(
        tells_an_end(fact)
        for reporter, facts in admitted
        if reporter is not Vantage.CLIENT
        for fact in facts
    )
    return classify(
        connect_type,
        [
            fact
            for reporter, facts in admitted
            for fact in facts
            if not (others_report and reporter is Vantage.CLIENT and is_hearsay(fact))
        ],
    )


def admissible(reporter: Vantage, facts: Iterable[Evidence]) -> tuple[Evidence, ...]:
    """Those of `facts` that `reporter` may testify to."""
    return tuple(
        fact
        for fact in facts
        if fact.vantage in MAY_CLAIM[reporter]
        and (reporter is not Vantage.CLIENT or client_may_say(fact))
    )


def about_the_end(testimonies: Iterable[Testimony], last_carrier: int | None) -> list[Testimony]:
    """All but what relays saw of carriers that the tunnel outlived: those ends are path history.

    For the arguments see `classify_end`.
    """
    on_file = without_withdrawn(testimonies)
    agent_reported = any(one.reporter is Vantage.AGENT for one in on_file)

    def counts(one: Testimony) -> bool:
        if one.carrier is None or last_carrier is None or one.carrier == last_carrier:
            return True
        # an agent that died may have gone over to a later carrier without having reported it
        return one.carrier > last_carrier and not agent_reported

    kept = [one for one in on_file if counts(one)]
    if all(_leaves_as_planned(fact) for one in kept for fact in one.facts):
        return kept
    # a relay that leaves as planned ends no tunnel: the other facts are about the end
    return [
        one
        if one.carrier is None
        else replace(one, facts=tuple(f for f in one.facts if not _leaves_as_planned(f)))
        for one in kept
    ]


_CONCLUSIONS = (NeverReturned, ReportMissing, NeighbourEnded, EndedTogether, PreviousRunDied)
"""What the server itself puts on file of a tunnel whose agent is away; of post-mortems, its own."""


def is_conclusion_from_absence(testimonies: Iterable[Testimony]) -> bool:
    """Whether a tunnel was closed only because its agent was away: nobody has reported, announced or
    decided its end."""
    for one in testimonies:
        match one.reporter:
            case Vantage.SERVER:
                if not all(isinstance(fact, (*_CONCLUSIONS, PeerReturned)) for fact in one.facts):
                    return False
            case Vantage.CLIENT:
                if any(
                    isinstance(fact, LocalSideClosed | PreviousRunDied)
                    or (isinstance(fact, GoodbyeSaid) and fact.by is not Party.RELAY)
                    # it gave the tunnel up: nobody is left who could go on with it
                    or (isinstance(fact, StreamEnded) and fact.peer is Party.AGENT)
                    for fact in one.facts
                ):
                    return False
            case Vantage.AGENT:
                return False
            case Vantage.RELAY:
                pass  # of carriers
    return True


def without_withdrawn(testimonies: Iterable[Testimony]) -> list[Testimony]:
    """All but what the server concluded from the absence of an agent that came back later on."""
    kept: list[Testimony] = []
    for one in testimonies:
        returned = one.reporter is Vantage.SERVER and any(
            isinstance(fact, PeerReturned) and fact.party is Party.AGENT and fact.same_run
            for fact in one.facts
        )
        concluded = [earlier for earlier in kept if _tells_of_absence(earlier)]
        if returned and concluded:
            kept = [earlier for earlier in kept if earlier not in concluded]
        else:
            kept.append(one)
    return kept


def _tells_of_absence(one: Testimony) -> bool:
    return one.reporter is Vantage.SERVER and any(
        isinstance(fact, NeverReturned | ReportMissing) and fact.party is Party.AGENT
        for fact in one.facts
    )


def _leaves_as_planned(fact: Evidence) -> bool:
    return (
        isinstance(fact, GoodbyeSaid)
        and fact.vantage is Vantage.RELAY
        and cause_of(fact.cause).reason is Reason.SERVER_SHUTDOWN
    )


def columns_of(verdict: Verdict) -> dict[str, Any]:
    """The columns of `connections` that follow from a verdict."""
    disconnect = verdict.disconnect
    fields = disconnect.fields()
    del fields["connect_type"]  # a row has it from its beginning
    return {
        **fields,
        "exit_code": disconnect.exit_code,
        "exit_signal": disconnect.exit_signal,
        "coarse_reason": disconnect.row.coarse_reason,
        "rule": verdict.rule,
        "confidence": verdict.confidence,
        "proximate_cause": verdict.proximate,
    }


def differs(verdict: Verdict, row: ConnectionRow) -> bool:
    """Whether a verdict is another one than the row has.

    Reason, initiator and expected follow from the cause. The detail is left out: which vantage reported
    first must not make a revision.
    """
    disconnect = verdict.disconnect
    return (
        disconnect.cause,
        disconnect.basis,
        disconnect.actor,
        disconnect.exit_code,
        disconnect.exit_signal,
    ) != (
        row.disconnect_cause,
        row.disconnect_basis,
        row.disconnect_actor,
        row.exit_code,
        row.exit_signal,
    )
