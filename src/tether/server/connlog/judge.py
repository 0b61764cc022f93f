"""From the testimonies on file about one end to its verdict, and to the columns of its row.

Law: pure. Only what its reporter can have seen or done is judged (`attribution.standing`); the rest is
hearsay. What a client reports that others said to it is judged only where no other party reports an end.
No party is believed alone about another one: what rests on its word alone is neither declared nor sure.
The facts of all reporters are judged together, their symptoms never.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

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
from tether.attribution.standing import Lifetime, doer_of, has_standing, is_heard, tells_an_end
from tether.attribution.vocabulary import Basis, Confidence, ConnectType, Party, Reason, Vantage
from tether.server.db.tables.connections import ConnectionRow


@dataclass(frozen=True, slots=True)
class Testimony:
    """What one reporter handed in at one time."""

    reporter: Vantage
    received_at: float
    facts: tuple[Evidence, ...]
    symptoms: tuple[Evidence, ...] = ()
    carrier: int | None = None
    """Of what a relay reports: the carrier that ended."""

    hearsay: tuple[Evidence, ...] = ()
    """What it handed in besides and has no standing to say: kept and shown, never judged."""

    def by_standing(self, since: float) -> Testimony:
        """`facts` parted from `hearsay`, for a connection that began at `since` (unix seconds)."""
        lifetime = Lifetime(since, self.received_at)
        told = (*self.facts, *self.hearsay)
        return replace(
            self,
            facts=tuple(fact for fact in told if has_standing(self.reporter, fact, lifetime)),
            hearsay=tuple(fact for fact in told if not has_standing(self.reporter, fact, lifetime)),
        )


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
    told = [
        (one.reporter, fact)
        for one in about_the_end(testimonies, last_carrier)
        for fact in one.facts
        if has_standing(one.reporter, fact)
    ]
    verdict = _classify(connect_type, told)
    for witness in sorted({reporter for reporter, _ in told} - {Vantage.SERVER}):
        if doer_of(verdict.disconnect.cause) in (None, Party(str(witness))):
            continue
        without = _classify(connect_type, [one for one in told if one[0] is not witness])
        verdict = _as_far_as_held(verdict, without)
    return verdict


def _classify(connect_type: ConnectType, told: list[tuple[Vantage, Evidence]]) -> Verdict:
    others_report = any(
        tells_an_end(fact) for reporter, fact in told if reporter is not Vantage.CLIENT
    )
    return classify(
        connect_type,
        [
            fact
            for reporter, fact in told
            if not (others_report and reporter is Vantage.CLIENT and is_heard(fact))
        ],
    )


_BASES = (Basis.INFERRED, Basis.OBSERVED, Basis.DECLARED)
_CONFIDENCES = (Confidence.LOW, Confidence.MEDIUM, Confidence.HIGH)


def _as_far_as_held(verdict: Verdict, without: Verdict) -> Verdict:
    """`verdict`, which is about another party than a witness, as far as it holds `without` its word."""
    basis, confidence = Basis.OBSERVED, Confidence.MEDIUM
    if without.disconnect.cause == verdict.disconnect.cause:
        basis, confidence = without.disconnect.basis, without.confidence
    disconnect = verdict.disconnect
    return replace(
        verdict,
        disconnect=replace(disconnect, basis=min(disconnect.basis, basis, key=_BASES.index)),
        confidence=min(verdict.confidence, confidence, key=_CONFIDENCES.index),
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
