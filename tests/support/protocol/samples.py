"""One sample of each struct of the protocol, every key set to something that is not its default."""

from __future__ import annotations

from typing import Any, get_type_hints

import msgspec

_PLAIN: dict[Any, Any] = {int: 7, float: 1.5, bytes: b"\x01\x02", Any: {"key": [1, None]}}


def sample(cls: type[msgspec.Struct]) -> Any:
    """The sample of `cls`: texts are the names of their keys."""
    hints = get_type_hints(cls)
    return cls(
        **{
            field.name: _value(hints[field.name], field.name, field.default)
            for field in msgspec.structs.fields(cls)
        }
    )


def _value(hint: Any, name: str, default: Any) -> Any:
    if hint is str:
        return name
    if hint is bool:
        return default is not True
    if hint in _PLAIN:
        return _PLAIN[hint]
    inner: tuple[Any, ...] = getattr(hint, "__args__", ())
    match getattr(hint, "__origin__", None):
        case origin if origin is list:
            return [_value(inner[0], name, None)]
        case origin if origin is dict:
            return {"key": _value(inner[1], name, None)}
        case origin if origin is tuple:
            return tuple(_value(one, name, None) for one in inner)
        case _ if inner:  # a union: its first member
            return _value(inner[0], name, None)
        case _:
            return sample(hint)
