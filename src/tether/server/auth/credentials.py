"""Tokens as text: how they are made, what they look like, and what is kept of them.

Law: `mint` is the only maker. What is stored is `digest(token)`; 256 random bits need neither salt nor
a slow hash. Nothing here logs.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tether.server.db.tables.accounts import TokenKind

_SHAPE = re.compile(r"tether_(user|agent|relay|session)_[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedToken:
    """A token at the only moment when it can be read."""

    token_id: str
    token: str

    def __repr__(self) -> str:
        return f"IssuedToken(token_id={self.token_id!r})"  # a token must not leak into a log


RELAY: Literal["relay"] = "relay"
"""The kind of a standalone relay's token."""


def mint(kind: TokenKind | Literal["relay"]) -> IssuedToken:
    """A new token that nobody can guess."""
    return IssuedToken(
        token_id=secrets.token_hex(8), token=f"tether_{kind}_{secrets.token_urlsafe(32)}"
    )


def digest(token: str) -> str:
    """What the database keeps: SHA-256, hexadecimal."""
    return hashlib.sha256(token.encode()).hexdigest()


def well_formed(token: str) -> bool:
    """Whether `token` looks like one of ours; if not, the database is not asked."""
    return _SHAPE.fullmatch(token) is not None


def keep_new(path: Path, token: str) -> str:
    """Write `token` to a new file that only this account can read; an older file wins.

    A file that is there already holds the token of a start that was cut off before it was recorded,
    or one that the operator chose: it is taken if it is a user's token.

    Returns:
        What the file holds.

    Raises:
        ValueError: the file is there and holds something else.
        OSError: it cannot be written or read.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        path.chmod(0o600)
        kept = path.read_text(errors="replace").strip()
        if not well_formed(kept) or not kept.startswith(f"tether_{TokenKind.USER}_"):
            raise ValueError(f"{path} is there but holds no user's token: move it away") from None
        return kept
    with os.fdopen(handle, "w") as file:
        file.write(token + "\n")
        file.flush()
        os.fsync(file.fileno())
    return token
