"""What every message is made of, and how a fact travels in one.

Law: types only; bytes are read and written in `codec`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import msgspec

from tether.attribution.evidence import Evidence
from tether.attribution.records import from_record, to_record


class Garbage(Exception):
    """Bytes that are not a message. Its text is one line for people."""


SECRETS = frozenset(("ticket", "tunnel_key"))
"""Fields that are not printed."""


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of every message; its wire type is the class name in snake case."""

    def __repr__(self) -> str:
        fields = (
            f"{name}=…"
            if name in SECRETS and getattr(self, name)
            else f"{name}={getattr(self, name)!r}"
            for name in self.__struct_fields__
        )
        return f"{type(self).__name__}({', '.join(fields)})"


class Unrecognized(Message, frozen=True, kw_only=True):
    """A message type that this version does not know. Never sent."""

    message_type: str


def wire_name(cls: type) -> str:
    """The wire type of a message: its class name in snake case."""
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in cls.__name__).lstrip("_")


class FactRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A fact on the wire and in a journal, in the form of `attribution.records.to_record`."""

    kind: str
    vantage: str
    at: float
    values: dict[str, Any] = {}


def facts_of(records: list[FactRecord]) -> list[Evidence]:
    """The facts in `records`; what is no fact at all is left out."""
    facts = []
    for record in records:
        with contextlib.suppress(ValueError):
            facts.append(from_record(msgspec.structs.asdict(record)))
    return facts


def records_of(facts: Iterable[Evidence]) -> list[FactRecord]:
    """`facts` in their wire form."""
    return [FactRecord(**to_record(fact)) for fact in facts]
