"""The kinds of facts: one closed union, each kind named after its class."""

from __future__ import annotations

import dataclasses

import pytest

from tests.support.protocol.facts import ONE_OF_EVERY_KIND
from tether.attribution import evidence as ev
from tether.attribution.evidence import Evidence


def test_the_samples_are_one_of_every_kind() -> None:
    assert [type(fact) for fact in ONE_OF_EVERY_KIND] == list(Evidence.__args__)


def test_kinds_are_the_snake_case_of_their_names() -> None:
    def snake(name: str) -> str:
        return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")

    assert {kind: snake(cls.__name__) for kind, cls in ev.KINDS.items()} == {k: k for k in ev.KINDS}


def test_facts_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ONE_OF_EVERY_KIND[0].at = 2.0  # type: ignore[misc]
