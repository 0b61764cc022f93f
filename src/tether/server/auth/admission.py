"""What a stored token says: the identity behind it, or the reason why it is refused.

Law: one query and one judgement, made anew for each request; the order of the checks is the order in
which an answer helps the asker most.
"""

from __future__ import annotations

from sqlalchemy import RowMapping, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.server.db.tables.accounts import Role, TokenKind, tokens, users
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


async def find(connection: AsyncConnection, token_hash: str) -> RowMapping | None:
    """The token with this hash, joined with whom it speaks for."""
    found = await connection.execute(
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
    return found.mappings().one_or_none()


def refusal(found: RowMapping, now: float) -> TokenRejected | None:
    """The first thing that speaks against a token, the most telling first."""
    if found["workspace_deleted_at"] is not None:
        return TokenRejected(
            "workspace_deleted",
            f"the workspace {found['workspace']} of this token was deleted: create it again and give"
            " its agent the new token",
        )
    if found["user_revoked_at"] is not None:
        return TokenRejected(
            "user_revoked",
            f"the access of {found['user']} was withdrawn ({found['user_revoked_by']}): ask an"
            " administrator",
        )
    if found["revoked_at"] is not None:
        return TokenRejected("token_revoked", "this token was revoked: use a new one")
    if found["expires_at"] is not None and found["expires_at"] <= now:
        return TokenRejected(
            "token_expired", f"this token expired at {iso(found['expires_at'])}: make a new one"
        )
    return None


def identity(found: RowMapping) -> Identity:
    """Who the token of `found` speaks for."""
    if found["kind"] == TokenKind.AGENT:
        return Identity(
            kind="agent",
            user=found["owner"],
            role="member",
            workspace_id=found["workspace_id"],
            workspace=found["workspace"],
            token_id=found["token_id"],
            expires_at=found["expires_at"],
        )
    return Identity(
        kind="user",
        user=found["user"],
        role="admin" if found["role"] == Role.ADMIN else "member",
        token_id=found["token_id"],
        expires_at=found["expires_at"],
    )
