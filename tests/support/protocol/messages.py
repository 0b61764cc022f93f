"""Hypothesis strategies for every message of the protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast, get_type_hints

import msgspec
from hypothesis import strategies as st

from tether.protocol.messages.base import Message
from tether.protocol.messages.codec import TYPES
from tether.protocol.messages.reports import ReportItem

_texts = st.text(max_size=20)
_floats = st.floats(allow_nan=False, allow_infinity=False)  # JSON has neither
_ints = st.integers(-(2**63), 2**63 - 1)
_plain: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | _ints | _floats | _texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_texts, inner, max_size=2),
    max_leaves=4,
)
_SIMPLE: Mapping[Any, st.SearchStrategy[Any]] = {
    str: _texts,
    int: _ints,
    float: _floats,
    bool: st.booleans(),
    type(None): st.none(),
    Any: _plain,
}


def of_type(cls: type[msgspec.Struct]) -> st.SearchStrategy[msgspec.Struct]:
    """Any value of one message type or report item."""
    hints = get_type_hints(cls)
    return st.builds(cls, **{name: _of_hint(hints[name]) for name in cls.__struct_fields__})


def _of_hint(hint: Any) -> st.SearchStrategy[Any]:
    if hint in _SIMPLE:
        return _SIMPLE[hint]
    arguments: tuple[Any, ...] = getattr(hint, "__args__", ())
    origin = getattr(hint, "__origin__", None)
    if origin is list:
        return st.lists(_of_hint(arguments[0]), max_size=3)
    if origin is dict:
        return st.dictionaries(_of_hint(arguments[0]), _of_hint(arguments[1]), max_size=3)
    if origin is tuple:
        return st.tuples(*map(_of_hint, arguments))
    if arguments:
        return st.one_of(*map(_of_hint, arguments))
    return of_type(hint)


messages: st.SearchStrategy[Message] = st.one_of(
    *(cast(st.SearchStrategy[Message], of_type(cls)) for cls in TYPES.values())
)
"""Any message of any type."""

report_items: st.SearchStrategy[msgspec.Struct] = st.one_of(*map(of_type, ReportItem.__args__))
"""Any item of a report."""
