"""From the testimonies on file to what a row says: filter, join, classify, flatten.

Law: pure. A reporter is heard only about vantages that it may claim, a client only about what it can
have seen; what a client heard others say is judged only where no other party tells an end. The facts
of all reporters are judged together, their symptoms never; a change of words alone is no new judgement.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import RowMapping

from tether.attribution.admissibility import client_may_say, is_hearsay, tells_an_end
from tether.attribution.causes.catalogue import cause_of
from tether.attribution.classify import Verdict, classify
from tether.attribution.evidence import Evidence, GoodbyeSaid
from tether.attribution.vocabulary import ConnectType, Reason, Vantage

MAY_CLAIM: Mapping[Vantage, frozenset[Vantage]] = {
    # an agent hears its client's goodbyes and its relay's words, and passes them on
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
    """Of a relay's word: the carrier whose end it tells."""


@dataclass(frozen=True, slots=True)
class JudgedEnd:
    """A verdict, and the columns of `connections` that follow from it."""

    verdict: Verdict
    columns: Mapping[str, Any]

    def differs_from(self, row: RowMapping | Mapping[str, Any]) -> bool:
        """Whether this says something else about the end than `row` does.

        `disconnect_detail` is left out: which vantage reported first must not make a revision.
        """
        return any(self.columns[name] != row[name] for name in MATERIAL)


MATERIAL = (
    "disconnect_cause",
    "disconnect_basis",
    "disconnect_actor",
    "exit_code",
    "exit_signal",
)
"""What makes a judgement a new one; reason, initiator and expected follow from the cause."""


def admissible(reporter: Vantage, facts: Iterable[Evidence]) -> tuple[Evidence, ...]:
    """Those of `facts` that `reporter` may testify to."""
    return tuple(
        fact
        for fact in facts
        if fact.vantage in MAY_CLAIM[reporter]
        and (reporter is not Vantage.CLIENT or client_may_say(fact))
    )


def of_the_last_carrier(testimonies: Iterable[Testimony], in_use: int | None) -> list[Testimony]:
    """All but what relays saw of carriers that the tunnel outlived: those ends are path history.

    Args:
        testimonies: everything on file.
        in_use: the carrier that was in use last, as far as the agent has reported.
    """
    said = list(testimonies)
    told_all = any(one.reporter is Vantage.AGENT for one in said)

    def counts(one: Testimony) -> bool:
        if one.carrier is None or in_use is None or one.carrier == in_use:
            return True
        # an agent that died may have gone over to a later one without having told
        return one.carrier > in_use and not told_all

    kept = [one for one in said if counts(one)]
    if any(fact for one in kept for fact in one.facts if not _leaves_as_planned(fact)):
        # a relay that leaves as planned ends no tunnel: what else is known tells of its end
        kept = [
            replace(one, facts=tuple(f for f in one.facts if not _leaves_as_planned(f)))
            if one.carrier is not None
            else one
            for one in kept
        ]
    return kept


def _leaves_as_planned(fact: Evidence) -> bool:
    return (
        isinstance(fact, GoodbyeSaid)
        and fact.vantage is Vantage.RELAY
        and cause_of(fact.cause).reason is Reason.SERVER_SHUTDOWN
    )


def judge_connection(connect_type: ConnectType, testimonies: Iterable[Testimony]) -> JudgedEnd:
    """Judge one end from everything on file about it."""
    heard = [(said.reporter, admissible(said.reporter, said.facts)) for said in testimonies]
    told = any(
        tells_an_end(fact)
        for reporter, facts in heard
        if reporter is not Vantage.CLIENT
        for fact in facts
    )
    facts = [
        fact
        for reporter, said in heard
        for fact in said
        if not (told and reporter is Vantage.CLIENT and is_hearsay(fact))
    ]
    verdict = classify(connect_type, facts)
    disconnect = verdict.disconnect
    columns = {
        "disconnect_reason": str(disconnect.reason),
        "disconnect_expected": disconnect.expected,
        "disconnect_initiator": str(disconnect.initiator),
        "disconnect_detail": disconnect.detail,
        "disconnect_cause": disconnect.cause,
        "disconnect_basis": str(disconnect.basis),
        "disconnect_actor": disconnect.actor,
        "coarse_reason": str(disconnect.row.coarse_reason),
        "exit_code": disconnect.exit_code,
        "exit_signal": disconnect.exit_signal,
        "rule": verdict.rule,
        "confidence": str(verdict.confidence),
        "proximate_cause": verdict.proximate,
    }
    return JudgedEnd(verdict, columns)
