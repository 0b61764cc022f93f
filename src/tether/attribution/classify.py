"""A case in, a verdict out: pure, total, and independent of the order of the facts.

Law: nothing here decides; `rules` does. This module finds the first rule that matches and gathers what
the rule does not choose: the actor, the exit status, the proximate cause, one line of detail.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from tether.attribution import evidence as ev
from tether.attribution.case import CONTEXT, Case
from tether.attribution.causes.catalogue import POLICY_REFUSALS, cause_of
from tether.attribution.causes.cause import MIDDLEBOX
from tether.attribution.details import detail_of
from tether.attribution.disconnect import Disconnect
from tether.attribution.evidence import Evidence
from tether.attribution.picks import DECISIONS
from tether.attribution.rules.rule import Rule, Sight
from tether.attribution.rules.table import RULES
from tether.attribution.vocabulary import Confidence, ConnectType, Reach


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided, and by which rule.

    `disconnect` names the root cause. Where the end alone, without the facts around it (`case.CONTEXT`)
    or without somebody's decision, would have shown another one, that is the `proximate` cause; else it
    is "".
    """

    disconnect: Disconnect
    rule: str
    because: str
    confidence: Confidence = Confidence.HIGH
    proximate: str = ""


def classify(
    connect_type: ConnectType, facts: Iterable[Evidence], rules: tuple[Rule, ...] = RULES
) -> Verdict:
    """Judge one end of one connection.

    Args:
        connect_type: which parties the connection joined.
        facts: the facts of all vantages, without the symptoms.
        rules: the table; its last rule must take anything.
    """
    case = Case(connect_type, facts)
    rule = _first(case, rules)
    cause = rule.decide(case)
    ended: list[ev.SessionEnded | ev.IdeBackendGone] = [
        *case.all(ev.SessionEnded)[-1:],
        *case.all(ev.IdeBackendGone)[-1:],
    ]
    disconnect = Disconnect(
        connect_type=connect_type,
        cause=cause,
        basis=rule.basis,
        actor=next(filter(None, _actors(case, cause)), ""),
        detail=detail_of(case, rule, cause),
        exit_code=ended[0].exit_code if ended else None,
        exit_signal=ended[0].exit_signal if ended else None,
    )
    blurred = rule.sight is Sight.BLURRED and any(map(_is_proxied, case.all(ev.StreamEnded)))
    confidence = Confidence.LOW if blurred else rule.confidence
    proximate = _proximate(case, rule, cause, rules)
    return Verdict(disconnect, rule.name, rule.because, confidence, proximate)


def _is_proxied(ended: ev.StreamEnded) -> bool:
    return ended.reach is Reach.PROXIED


def _first(case: Case, rules: tuple[Rule, ...]) -> Rule:
    asked = _candidates(case.kinds) if rules is RULES else rules
    return next(rule for rule in asked if rule.when.check(case))


@lru_cache(maxsize=4096)
def _candidates(kinds: frozenset[type[ev.Fact]]) -> tuple[Rule, ...]:
    """The rules that can match a case with facts of these kinds. Ends come in few combinations."""
    return tuple(rule for rule in RULES if rule.when.needs <= kinds)


def _proximate(case: Case, rule: Rule, cause: str, rules: tuple[Rule, ...]) -> str:
    if rule.cause not in DECISIONS and not case.kinds & CONTEXT:
        return ""
    near = Case(case.connect_type, _near(case, rule, cause))
    if not near.facts:
        return ""
    seen = _first(near, rules).decide(near)
    return "" if seen == cause else seen


def _near(case: Case, rule: Rule, cause: str) -> Iterator[Evidence]:
    """What shows the end itself: all but the facts around it; where somebody had decided it, all but
    that decision, so that the cause of what came of it stays beside it."""
    for fact in case.facts:
        if rule.cause in DECISIONS:
            if not (isinstance(fact, ev.IntentRecorded | ev.GoodbyeSaid) and fact.cause == cause):
                yield fact
        elif type(fact) not in CONTEXT:
            yield fact


def _actors(case: Case, cause: str) -> Iterator[str]:
    """Who is behind the initiator, most telling first: whom a party named, who alone can have been it,
    who sent the signal, whose policy refused. "" where that is not told."""
    for said in case.all(ev.GoodbyeSaid):
        if said.cause == cause:
            yield said.actor
    for asked in case.all(ev.IntentRecorded):
        if asked.cause == cause:
            yield asked.actor
    for session in case.all(ev.SessionEnded)[-1:]:
        if session.cause == cause:
            yield session.actor
    if cause_of(cause).actor == MIDDLEBOX:
        for ended in filter(_is_proxied, case.all(ev.StreamEnded)):
            yield f"{MIDDLEBOX} {ended.proxy}".strip()
    yield cause_of(cause).actor
    for signal in case.all(ev.SignalReceived):
        if cause.startswith(f"{signal.party}."):
            yield signal_actor(signal.signal, signal.sender)
    for died in case.all(ev.PreviousRunDied):
        if died.signal and cause.startswith(f"{died.party}."):  # its sender told it to stop before
            yield signal_actor(died.signal, "") if not died.sender else f"signal from {died.sender}"
    for refused in case.all(ev.PolicyRefused):
        if cause == POLICY_REFUSALS[refused.policy]:
            yield f"policy:{refused.policy}"


def signal_actor(number: int, sender: str) -> str:
    """A signal's sender as an actor: `signal:15 from pid 1 uid 0`."""
    return f"signal:{number} from {sender}" if sender else f"signal:{number}"
