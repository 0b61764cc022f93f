"""Which tunnels may not live any more, and why: who opened them has lost the right to.

Law: reads only, and one judgement for all moments: whatever brought a tunnel up, and whenever, it is
held against the user, the token and the signed-in browser that it was granted to as they are now. The
causes are those that the access itself was withdrawn with, and so are the actors.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.attribution.causes.codes import (
    AUTH_TOKEN_EXPIRED,
    AUTH_TOKEN_REVOKED,
    AUTH_USER_REVOKED,
)
from tether.attribution.vocabulary import Initiator
from tether.server.auth.sessions import UNUSED_S
from tether.server.connlog.records import IS_ONGOING, IS_TUNNEL
from tether.server.db.fetch import fetch_all
from tether.server.db.tables.accounts import tokens, users
from tether.server.db.tables.connections import ConnectionRow, ConnectionStatus, connections
from tether.server.db.tables.web import web_sessions

AT_ONCE = 500
"""So many ids one query asks for."""


class WithdrawnTunnel(ConnectionRow, frozen=True, kw_only=True):
    """A tunnel, and what speaks against it."""

    user_revoked_at: float | None
    user_revoked_by: str | None
    token_revoked_at: float | None
    token_revoked_by: str | None
    session_revoked_at: float | None
    session_revoked_by: str | None

    @property
    def why(self) -> tuple[str, str]:
        """The cause with which it is to end, and the actor behind that ("" where it is not known)."""
        if self.user_revoked_at is not None:
            return AUTH_USER_REVOKED, self.user_revoked_by or ""
        if self.token_revoked_at is not None:
            return AUTH_TOKEN_REVOKED, self.token_revoked_by or ""
        if self.session_revoked_at is not None:
            return AUTH_TOKEN_REVOKED, self.session_revoked_by or ""
        if self.is_closed:  # the record says so already
            return self.cause_and_actor
        return AUTH_TOKEN_EXPIRED, ""


async def withdrawn_tunnels(tx: AsyncConnection, now: float) -> list[WithdrawnTunnel]:
    """The ongoing tunnels that may not live any more."""
    return await fetch_all(
        tx, _with_access().where(IS_TUNNEL, IS_ONGOING, _withdrawn(now)), WithdrawnTunnel
    )


async def not_to_be_served(
    tx: AsyncConnection, connection_ids: Collection[str], journal_id: str, now: float
) -> list[WithdrawnTunnel]:
    """Those of these tunnels of an agent that may not live any more, whatever their rows say; and those
    that the server had ended while the agent was away."""
    ended = and_(
        connections.c.status == ConnectionStatus.CLOSED,
        connections.c.disconnect_initiator == Initiator.SERVER,
    )
    wanted, found = list(connection_ids), []
    for begin in range(0, len(wanted), AT_ONCE):
        query = _with_access().where(
            IS_TUNNEL,
            connections.c.connection_id.in_(wanted[begin : begin + AT_ONCE]),
            connections.c.journal_id == journal_id,
            or_(ended, _withdrawn(now)),
        )
        found += await fetch_all(tx, query, WithdrawnTunnel)
    return found


def _with_access() -> Select[Any]:
    origin = func.coalesce(func.nullif(web_sessions.c.token_id, ""), connections.c.token_id)
    return select(
        connections,
        users.c.revoked_at.label("user_revoked_at"),
        users.c.revoked_by.label("user_revoked_by"),
        tokens.c.revoked_at.label("token_revoked_at"),
        tokens.c.revoked_by.label("token_revoked_by"),
        web_sessions.c.revoked_at.label("session_revoked_at"),
        web_sessions.c.revoked_by.label("session_revoked_by"),
    ).select_from(
        connections.join(users, users.c.name == connections.c.user)
        .outerjoin(web_sessions, web_sessions.c.session_id == connections.c.token_id)
        .outerjoin(tokens, tokens.c.token_id == origin)
    )


def _withdrawn(now: float) -> ColumnElement[bool]:
    neither = and_(
        connections.c.token_id.is_not(None),
        tokens.c.token_id.is_(None),
        web_sessions.c.session_id.is_(None),  # over, and forgotten
    )
    return or_(
        users.c.revoked_at.is_not(None),
        tokens.c.revoked_at.is_not(None),
        tokens.c.expires_at <= now,
        web_sessions.c.revoked_at.is_not(None),
        web_sessions.c.expires_at <= now,
        web_sessions.c.last_seen_at <= now - UNUSED_S,
        neither,
    )
