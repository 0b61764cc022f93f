"""Slots: how many of something there may be, in all and for each token, user and address.

Law: counts, and no time. What one of them holds leaves room for the others, because its own limit is
far below the total.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum


class Holder(StrEnum):
    """Who holds a slot: the word for it in the sentence of a refusal."""

    ALL = "all"
    ADDRESS = "this address"
    USER = "this user"
    TOKEN = "this token"


Slot = tuple[Holder, str]


class Slots:
    """So many for each kind of holder; a kind without a limit is not counted."""

    def __init__(self, limits: Mapping[Holder, int]) -> None:
        self._limits = limits
        self._taken: Counter[Slot] = Counter()

    def take(self, *slots: Slot) -> Holder | None:
        """Take all of these slots, or none: whose limit is reached; None where they were taken."""
        for kind, key in slots:
            if kind in self._limits and self._taken[kind, key] >= self._limits[kind]:
                return kind
        self._taken.update(slots)
        return None

    def count(self, *slots: Slot) -> None:
        """Take these slots whatever the limits say."""
        self._taken.update(slots)

    def give_back(self, *slots: Slot) -> None:
        """They are free again."""
        for slot in slots:
            self._taken[slot] -= 1
            if self._taken[slot] <= 0:
                del self._taken[slot]

    def taken(self, slot: Slot) -> int:
        """How many this one holds."""
        return self._taken[slot]
