"""A fact on the wire and in the journal. Law: one type, so that every message can carry it."""

from __future__ import annotations

from typing import Any

import msgspec


class FactRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A fact in the form of `attribution.evidence.to_record`."""

    kind: str
    vantage: str
    at: float
    values: dict[str, Any] = {}
