"""Nothing in the vocabulary is idle: every fact has an emitter, every cause a way to come about.

An emitter is source outside the core that makes a fact of the kind, or that declares the cause by the
constant of its code. A cause counts as produced where a test outside the core, or a scenario, names it.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import tether
from tether.attribution.case import Case
from tether.attribution.causes import codes
from tether.attribution.causes.catalogue import (
    ACCESS_REFUSALS,
    CATALOGUE,
    EXHAUSTIONS,
    INTERNAL_ERRORS,
    POLICY_REFUSALS,
    PROTOCOL_ERRORS,
    SLOW_READERS,
    WORKSPACE_STOPS,
)
from tether.attribution.evidence import KINDS
from tether.attribution.examples.table import EXAMPLES
from tether.attribution.rules.rule import Rule
from tether.attribution.rules.table import RULES

SRC = Path(tether.__file__).parent
TESTS = Path(__file__).resolve().parents[2]

PICKED = {
    *PROTOCOL_ERRORS.values(),
    *ACCESS_REFUSALS.values(),
    *POLICY_REFUSALS.values(),
    *INTERNAL_ERRORS.values(),
    *SLOW_READERS.values(),
    *EXHAUSTIONS.values(),
}
"""Causes that a rule or the agent picks by a word of a fact."""


NAMED = {name: code for name, code in vars(codes).items() if name.isupper()}
"""Constants by which the source outside the core names a cause -> its code."""


@cache
def emitters() -> str:
    """The source outside the core."""
    paths = sorted(path for path in SRC.rglob("*.py") if "attribution" not in path.parts)
    return "\n".join(path.read_text() for path in paths)


@cache
def witnesses() -> str:
    """The tests outside the core's, and the scenarios of the gauntlet."""
    tests = [path for path in TESTS.rglob("*.py") if path.parent.name != "attribution"]
    tests += (SRC.parent / "tether_gauntlet").rglob("*.py")
    return "\n".join(path.read_text() for path in sorted(tests))


@cache
def emitted_kinds() -> frozenset[str]:
    return frozenset(
        kind for kind, cls in KINDS.items() if re.search(rf"\b{cls.__name__}\(", emitters())
    )


def can_be_concluded(rule: Rule, case: Case) -> bool:
    """Whether all that the rule's example is made of is emitted by somebody."""
    return {type(fact).kind for fact in case.facts} <= emitted_kinds()


def test_a_constant_is_its_code_in_capitals_and_is_used() -> None:
    assert {code: code.upper().replace(".", "_") for code in NAMED.values()} == {
        code: name for name, code in NAMED.items()
    }
    assert set(NAMED.values()) <= set(CATALOGUE)
    assert [name for name in NAMED if not re.search(rf"\b{name}\b", emitters())] == []


def test_no_code_of_a_cause_is_spelled_outside_the_core() -> None:
    spelled = {
        f"{path.relative_to(SRC)}: {node.value}"
        for path in SRC.rglob("*.py")
        if "attribution" not in path.parts
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if node.value in CATALOGUE and node.value != codes.UNKNOWN
    }
    assert spelled == set()


def test_every_kind_of_fact_has_an_emitter() -> None:
    assert set(KINDS) - emitted_kinds() == set()


def test_every_cause_is_concluded_from_facts_that_somebody_emits_or_is_declared() -> None:
    concluded = {
        rule.decide(case)
        for rule, case in zip(RULES, EXAMPLES, strict=True)
        if can_be_concluded(rule, case)
    }
    declared = {code for name, code in NAMED.items() if re.search(rf"\b{name}\b", emitters())}
    assert "WORKSPACE_STOPS" in emitters()
    declared |= set(WORKSPACE_STOPS.values())
    assert set(CATALOGUE) - concluded - declared - PICKED == set()


def test_every_cause_is_produced_by_a_test_outside_the_core() -> None:
    produced = {code for code in CATALOGUE if f'"{code}"' in witnesses()}
    assert set(CATALOGUE) - produced == set()
