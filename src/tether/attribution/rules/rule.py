"""One row of the table.

Law: a row is data; its test and its pick are pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tether.attribution.case import Case
from tether.attribution.picks import Pick
from tether.attribution.predicates.predicate import Predicate
from tether.attribution.vocabulary import Basis, Confidence


class Sight(StrEnum):
    """What a proxy in between makes of a conclusion. What a TCP connection's kernel can witness ends at
    the next proxy; what a party tells of itself comes through."""

    THROUGH = "through"  # it is the same
    BLURRED = "blurred"  # it may have been the proxy: it is the same, and not to be trusted far
    BLOCKED = "blocked"  # it is about the proxy, and is not drawn


@dataclass(frozen=True, slots=True)
class Rule:
    """One row. `cause` is a code of the catalogue, or picks one from the case."""

    name: str
    when: Predicate
    cause: str | Pick
    basis: Basis
    because: str
    confidence: Confidence = Confidence.HIGH
    """How far an inferred cause is to be trusted; what was declared or observed always is."""

    sight: Sight = Sight.THROUGH
    """How far the evidence can see."""

    def decide(self, case: Case) -> str:
        """The cause's code for a case that this rule matches."""
        return self.cause if isinstance(self.cause, str) else self.cause(case)
