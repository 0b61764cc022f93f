"""A law of the rule table: what is withheld from a rule's example makes no other cause sure.

A verdict that lacks a vantage, or a kind of fact, may be the same, coarser, unsure or unknown.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tether.attribution.case import Case
from tether.attribution.causes.codes import UNKNOWN
from tether.attribution.classify import classify
from tether.attribution.evidence import Evidence
from tether.attribution.examples.table import EXAMPLES
from tether.attribution.rules.rule import Rule
from tether.attribution.rules.table import RULES
from tether.attribution.vocabulary import Confidence, Vantage
from tether_gauntlet.ablation import coarser

PAIRS = list(zip(RULES, EXAMPLES, strict=True))

BELIEVED = {
    # a goodbye is believed as it was said; an account comes whole, or not at all
    ("internal-failure", "internal_failure"): "agent.shutdown",
    ("superseded", "superseded"): "agent.shutdown",
    ("goodbye", "goodbye_said"): "client.closed",
    ("client-only-looked", "handshake_unfinished"): "client.no_common_algorithm",
    # what the server itself did is in its own record, which is never withheld from it
    ("superseded", "server"): "agent.shutdown",
}
"""Reviewed: (rule, what is withheld) -> the other cause that is sure then, and why that is right."""


def sure_of_another(case: Case, left: Sequence[Evidence]) -> str:
    """The cause that is sure without a part of the case, where it is not true of the whole."""
    whole = classify(case.connect_type, case.facts).disconnect.cause
    verdict = classify(case.connect_type, left)
    cause = verdict.disconnect.cause
    sure = verdict.confidence is Confidence.HIGH and cause not in (whole, UNKNOWN)
    return cause if sure and not coarser(cause, [whole]) else ""


def ids(value: Rule | Case) -> str:
    return value.name if isinstance(value, Rule) else ""


@pytest.mark.parametrize(("rule", "case"), PAIRS, ids=ids)
def test_no_other_cause_is_sure_as_a_vantage_or_a_kind_of_fact_is_withheld(
    rule: Rule, case: Case
) -> None:
    sure = {}
    for vantage in Vantage:
        left = [fact for fact in case.facts if fact.vantage is not vantage]
        sure[rule.name, str(vantage)] = sure_of_another(case, left)
    for kind in case.kinds:
        left = [fact for fact in case.facts if type(fact) is not kind]
        sure[rule.name, kind.kind] = sure_of_another(case, left)
    believed = {where: cause for where, cause in BELIEVED.items() if where[0] == rule.name}
    assert {where: cause for where, cause in sure.items() if cause} == believed


def test_what_is_believed_all_the_same_is_about_rules_that_there_are() -> None:
    assert {name for name, _ in BELIEVED} <= {rule.name for rule in RULES}
