"""What every fact has, and the fact of a newer peer.

Law: see `evidence`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from tether.attribution.vocabulary import Vantage


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """What every fact has: its observer, and the observer's wall clock in unix seconds."""

    kind: ClassVar[str] = "fact"
    vantage: Vantage
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownFact(Fact):
    """A fact of a newer peer, kept whole. No rule reads it."""

    kind: ClassVar[str] = "unknown_fact"
    original_kind: str
    values: tuple[tuple[str, Any], ...]
