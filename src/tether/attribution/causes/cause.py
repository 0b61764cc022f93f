"""One row of the catalogue.

Law: a row is data; what follows from it is a property here.
"""

from __future__ import annotations

from dataclasses import dataclass

from tether.attribution.vocabulary import COARSE, Initiator, Reason

NOTHING = "Nothing needs to be done."
"""The advice where all is well."""


@dataclass(frozen=True, slots=True)
class Cause:
    """One way a connection can end."""

    code: str
    reason: Reason
    initiator: Initiator
    expected: bool
    title: str
    sentence: str
    advice: str

    @property
    def coarse_reason(self) -> Reason:
        """The word of the original vocabulary, for old readers."""
        return COARSE[self.reason]
