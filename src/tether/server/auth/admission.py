"""What a stored token comes to: the identity behind it, or the reason why it is refused.

Law: one query and one judgement, made anew for each request; the order of the checks is the order in
which an answer helps the asker most.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.server.db.fetch import fetch_one
from tether.server.db.tables.accounts import Role, TokenKind, TokenRow, tokens, users
from tether.server.db.tables.workspaces import workspaces
from tether.server.identity import Identity, TokenRejected
from tether.server.times import iso

MISSING = TokenRejected(
    "token_unknown", "no token was sent: set TETHER_TOKEN or run `tether login`"
)
UNKNOWN = TokenRejected(
    "token_unknown",
    "this token is not known here: check that it is whole and that it belongs to this server",
)


class KnownToken(TokenRow, frozen=True, kw_only=True):
    """A token, joined with whom it speaks for."""

    role: Role | None  # of a user's token, as are the next two
    user_revoked_at: float | None
    user_revoked_by: str | None
    workspace: str | None  # of an agent's token, as are the next two
    owner: str | None
    workspace_deleted_at: float | None


async def find(connection: AsyncConnection, token_hash: str) -> KnownToken | None:
    """The token with this hash."""
    query = (
        select(
            tokens,
            users.c.role,
            users.c.revoked_at.label("user_revoked_at"),
            users.c.revoked_by.label("user_revoked_by"),
            workspaces.c.name.label("workspace"),
            workspaces.c.owner,
            workspaces.c.deleted_at.label("workspace_deleted_at"),
        )
        .select_from(
            tokens.outerjoin(users).outerjoin(
                workspaces, tokens.c.workspace_id == workspaces.c.workspace_id
            )
        )
        .where(tokens.c.token_hash == token_hash)
    )
    return await fetch_one(connection, query, KnownToken)


def refusal(found: KnownToken, now: float) -> TokenRejected | None:
    """The first thing that speaks against a token, the most telling first."""
    if found.workspace_deleted_at is not None:
        return TokenRejected(
            "workspace_deleted",
            f"the workspace {found.workspace} of this token was deleted: create it again and give"
            " its agent the new token",
        )
    if found.user_revoked_at is not None:
        return TokenRejected(
            "user_revoked",
            f"the access of {found.user} was withdrawn ({found.user_revoked_by}): ask an"
            " administrator",
        )
    if found.revoked_at is not None:
        return TokenRejected("token_revoked", "this token was revoked: use a new one")
    if found.expires_at is not None and found.expires_at <= now:
        return TokenRejected(
            "token_expired", f"this token expired at {iso(found.expires_at)}: make a new one"
        )
    return None


def identity(found: KnownToken) -> Identity:
    """Who the token of `found` speaks for."""
    return Identity(
        kind=found.kind.value,
        user=(found.user if found.kind is TokenKind.USER else found.owner) or "",
        role="admin" if found.role is Role.ADMIN else "member",
        workspace_id=found.workspace_id or "",
        workspace=found.workspace or "",
        token_id=found.token_id,
        expires_at=found.expires_at,
    )
