"""Facts as plain data: the one form in which they travel and are stored.

Law: total both ways. A kind or a word that is not ours makes an `UnknownFact`, which keeps it whole.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, cast, get_type_hints

from tether.attribution.evidence import KINDS, Evidence, Fact, UnknownFact
from tether.attribution.vocabulary import Vantage

_COMMON = ("vantage", "at")


def to_record(fact: Evidence) -> dict[str, Any]:
    """`fact` as plain data: `{"kind", "vantage", "at", "values": {…}}`."""
    if isinstance(fact, UnknownFact):
        kind, values = fact.original_kind, dict(fact.values)
    else:
        kind = fact.kind
        values = {
            field.name: _plain(getattr(fact, field.name))
            for field in dataclasses.fields(fact)
            if field.name not in _COMMON
        }
    return {"kind": kind, "vantage": str(fact.vantage), "at": fact.at, "values": values}


def from_record(record: Mapping[str, Any]) -> Evidence:
    """The fact that `record` holds; an `UnknownFact` where its kind or its words are not ours.

    Raises:
        ValueError: `record` has no known vantage or no time: it is not a fact at all.
    """
    try:
        vantage, at = Vantage(record["vantage"]), _finite(float(record["at"]))
        kind, values = str(record["kind"]), dict(record.get("values") or {})
    except (KeyError, TypeError, ValueError, OverflowError) as wrong:
        raise ValueError(f"not a fact: {wrong!r}") from wrong
    cls = KINDS.get(kind)
    if cls is not None:
        try:
            return cast(Evidence, _build(cls, vantage, at, values))
        except (TypeError, ValueError, OverflowError):
            pass
    return UnknownFact(
        vantage=vantage,
        at=at,
        original_kind=kind,
        values=tuple(sorted(_storable(values).items())),
    )


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, StrEnum) else value


def _finite(number: float) -> float:
    """`number`, if it is finite: infinity and NaN have no place in JSON, and NaN has no order."""
    if not math.isfinite(number):
        raise ValueError(f"{number} is no time or measure")
    return number


def _storable(value: Any) -> Any:
    """`value` as JSON can hold it: what a newer peer sends must not break a log line or a row."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(name): _storable(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(inner) for inner in value]
    return repr(value)


def _build(cls: type[Fact], vantage: Vantage, at: float, values: Mapping[str, Any]) -> Fact:
    hints = _hints(cls.kind)
    given = {name: _checked(hints[name], values[name]) for name in hints.keys() & values.keys()}
    return cls(vantage=vantage, at=at, **given)


@functools.cache
def _hints(kind: str) -> Mapping[str, Any]:
    """The types of a kind's own values, kept: to find them out took as long as a statement of SQL."""
    cls = KINDS[kind]
    hints = get_type_hints(cls)
    own = (field.name for field in dataclasses.fields(cls) if field.name not in _COMMON)
    return {name: hints[name] for name in own}


def _checked(hint: Any, value: Any) -> Any:
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return hint(value)
    options = getattr(hint, "__args__", (hint,))
    if float in options and isinstance(value, int | float) and not isinstance(value, bool):
        return _finite(float(value))
    if not isinstance(value, options) or (isinstance(value, bool) and bool not in options):
        raise TypeError(f"expected {hint}, got {type(value).__name__}")
    return value
