"""What a message is: the base of them all.

Law: types only. The messages of one subject are one module; `messages.py` knows them all and is their
one codec.
"""

from __future__ import annotations

import msgspec


class Garbage(Exception):
    """Bytes that are not a message. Its text is one line for people."""


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


SECRETS = frozenset(("ticket", "tunnel_key"))
"""Fields that are not printed."""
