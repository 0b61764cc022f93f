"""The tables of users, of their tokens and of agents' tokens."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from sqlalchemy import CheckConstraint, Index

from tether.server.db.tables.base import Key, Row, column, table


class Role(StrEnum):
    """What a user may do: everything, or only what concerns their own workspaces."""

    ADMIN = "admin"
    MEMBER = "member"


class TokenKind(StrEnum):
    """Whom a token speaks for."""

    USER = "user"
    AGENT = "agent"


class UserRow(Row, frozen=True, kw_only=True):
    name: Key
    role: Role
    created_at: float
    revoked_at: float | None  # NULL while the user has access
    revoked_by: str | None  # an actor, `admin:NAME`


users = table("users", UserRow)


class TokenRow(Row, frozen=True, kw_only=True):
    token_id: Key
    kind: TokenKind
    token_hash: Annotated[str, column(unique=True)]  # SHA-256, hexadecimal
    user: Annotated[str | None, column(refers_to="users.name")]  # of a user's token
    # of an agent's token:
    workspace_id: Annotated[str | None, column(refers_to="workspaces.workspace_id")]
    label: str
    created_at: float
    expires_at: float | None  # NULL: never
    revoked_at: float | None
    last_used_at: float | None  # written in batches; may lag by a minute
    # of a user's token: the one that it was made with, which it does not outlive
    parent_id: str | None
    revoked_by: str | None  # an actor, where it is known


tokens = table(
    "tokens",
    TokenRow,
    CheckConstraint(
        "(kind = 'user' AND \"user\" IS NOT NULL AND workspace_id IS NULL)"
        " OR (kind = 'agent' AND \"user\" IS NULL AND workspace_id IS NOT NULL)",
        name="speaks_for_one",
    ),
    Index(None, "user"),
    Index(None, "workspace_id"),
    Index(None, "parent_id"),
)
