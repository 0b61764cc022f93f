"""The table of programs: names as the agent normalises them, each in a family that users filter by."""

from __future__ import annotations

from tether.attribution.vocabulary import ConnectionType
from tether.protocol.apps import FAMILIES


def test_a_name_is_one_word_that_can_be_a_label() -> None:
    assert [name for name in FAMILIES if not name.replace("_", "").isalnum()] == []
    assert [name for name in FAMILIES if name != name.lower()] == []


def test_every_family_has_a_program_of_its_own_name() -> None:
    families = {ConnectionType.SSH, ConnectionType.VSCODE, ConnectionType.JETBRAINS}
    assert set(FAMILIES.values()) == families
    assert all(FAMILIES[str(family)] is family for family in families)
