"""Browsers that are signed in: how one is let in, and what ends that.

Law: a session's secret is 256 random bits that only its cookie holds; the database has its SHA-256. It
is looked up for each request, so what was withdrawn is refused from the next one on: the session itself,
the token that it was begun with, its user. A sign-in link works once, and for a short time.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, Table, delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.net.clock import Clock
from tether.server.auth.credentials import IssuedToken, digest
from tether.server.db.fetch import fetch_all, fetch_one
from tether.server.db.store import Store
from tether.server.db.tables.accounts import Role, tokens, users
from tether.server.db.tables.web import (
    SignInLinkRow,
    SignInMethod,
    WebSessionRow,
    sign_in_links,
    web_sessions,
)
from tether.server.errors import NotFound
from tether.server.identity import Identity, TokenRejected
from tether.server.times import iso
from tether.text import printable

SESSION = "tether_session_"
"""How a session's secret begins."""

LIFE_S, UNUSED_S = 30 * 86_400.0, 7 * 86_400.0
"""How long a session lives, and how long it may go unused."""

LINK_LIFE_S = 10 * 60.0

SEEN_EVERY_S = 60.0
"""How exactly `last_seen_at` is kept: a write for each request would be too many."""

MAX_AGENT = 200
"""Characters of a browser's own description that are kept."""

SIGNED_OUT = TokenRejected("session_over", "you are not signed in: sign in again")
LINK_SPENT = TokenRejected(
    "link_spent",
    "this sign-in link was used already, or is older than 10 minutes: `tether web` makes a new one",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionInfo:
    """A session, without its secret. Times are unix seconds."""

    session_id: str
    user: str
    method: SignInMethod
    created_at: float
    last_seen_at: float
    expires_at: float
    client_ip: str
    user_agent: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedLink:
    """A sign-in link at the only moment when it can be read."""

    secret: str
    expires_at: float

    def __repr__(self) -> str:
        return "Link(…)"


class Sessions:
    """Every signed-in browser, and the links by which one signs in."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._written: dict[str, float] = {}
        """Session -> when its use was last written."""

    # -- coming in --------------------------------------------------------------------------

    async def begin(
        self, identity: Identity, method: SignInMethod, *, client_ip: str, user_agent: str
    ) -> tuple[IssuedToken, SessionInfo]:
        """Sign a browser in as `identity`, whose token it then stands or falls with."""
        now = self._clock.now().wall
        issued = IssuedToken(
            token_id=secrets.token_hex(8), token=SESSION + secrets.token_urlsafe(32)
        )
        info = SessionInfo(
            session_id=issued.token_id,
            user=identity.user,
            method=method,
            created_at=now,
            last_seen_at=now,
            expires_at=min(now + LIFE_S, identity.expires_at or now + LIFE_S),
            client_ip=client_ip[:64],
            user_agent=printable(user_agent[:MAX_AGENT], ""),
        )

        async def keep(connection: AsyncConnection) -> None:
            c = web_sessions.c
            over = or_(c.expires_at < now, c.last_seen_at < now - UNUSED_S, c.revoked_at < now)
            await connection.execute(delete(web_sessions).where(over))
            await connection.execute(
                insert(web_sessions).values(
                    session_id=info.session_id,
                    secret_hash=digest(issued.token),
                    user=info.user,
                    token_id=identity.token_id,
                    method=str(method),
                    created_at=now,
                    last_seen_at=now,
                    expires_at=info.expires_at,
                    client_ip=info.client_ip,
                    user_agent=info.user_agent,
                )
            )

        await self._store.write(keep)
        return issued, info

    async def authenticate(self, secret: str) -> Identity | TokenRejected:
        """Whose browser has this secret, or why it is not let in.

        Raises:
            StoreUnavailable: the database cannot be read now.
        """
        wanted = digest(secret)
        found = await self._store.read(lambda connection: _find(connection, wanted))
        if found is None or not hmac.compare_digest(found.secret_hash, wanted):
            return SIGNED_OUT
        now = self._clock.now().wall
        if refusal := _refusal(found, now):
            return refusal
        session_id = found.session_id
        if now - self._written.get(session_id, found.last_seen_at) > SEEN_EVERY_S:
            self._written[session_id] = now
            await self._store.write(lambda connection: _seen(connection, session_id, now))
        return Identity(
            kind="user",
            user=found.user,
            role="admin" if found.role is Role.ADMIN else "member",
            token_id=session_id,
            expires_at=found.expires_at,
        )

    # -- links ------------------------------------------------------------------------------

    async def make_link(self, identity: Identity) -> IssuedLink:
        """A link that signs one browser in as `identity`, once."""
        now = self._clock.now().wall
        link = IssuedLink(secret=secrets.token_urlsafe(32), expires_at=now + LINK_LIFE_S)

        async def keep(connection: AsyncConnection) -> None:
            c = sign_in_links.c
            await connection.execute(delete(sign_in_links).where(c.expires_at < now))
            await connection.execute(
                insert(sign_in_links).values(
                    link_hash=digest(link.secret),
                    user=identity.user,
                    token_id=await origin_of(connection, identity),
                    created_at=now,
                    expires_at=link.expires_at,
                )
            )

        await self._store.write(keep)
        return link

    async def redeem(self, secret: str) -> Identity | TokenRejected:
        """Whom a link signs in; it is of no more use."""
        now = self._clock.now().wall

        async def use(connection: AsyncConnection) -> KnownLink | None:
            c = sign_in_links.c
            unused = (c.link_hash == digest(secret), c.used_at.is_(None), c.expires_at > now)
            used = await connection.execute(
                update(sign_in_links)
                .where(*unused)
                .values(used_at=now)
                .returning(c.user, c.token_id)
            )
            if used.one_or_none() is None:
                return None
            query = _with_origin(sign_in_links).where(c.link_hash == digest(secret))
            return await fetch_one(connection, query, KnownLink)

        found = await self._store.write(use)
        if found is None:
            return LINK_SPENT
        return _origin_refusal(found, now) or Identity(
            kind="user",
            user=found.user,
            role="admin" if found.role is Role.ADMIN else "member",
            token_id=found.token_id,
            expires_at=found.token_expires_at,
        )

    # -- what one sees and ends ----------------------------------------------------------------

    async def list(self, user: str) -> list[SessionInfo]:
        """The sessions of `user` that are not over, used last first."""
        now = self._clock.now().wall
        c = web_sessions.c
        live = (
            c.user == user,
            c.revoked_at.is_(None),
            c.expires_at > now,
            c.last_seen_at > now - UNUSED_S,
        )

        query = select(web_sessions).where(*live).order_by(c.last_seen_at.desc())
        rows = await self._store.read(lambda tx: fetch_all(tx, query, WebSessionRow))
        return [
            SessionInfo(
                session_id=row.session_id,
                user=row.user,
                method=row.method,
                created_at=row.created_at,
                last_seen_at=row.last_seen_at,
                expires_at=row.expires_at,
                client_ip=row.client_ip,
                user_agent=row.user_agent,
            )
            for row in rows
        ]

    async def end(self, session_id: str, by: Identity) -> None:
        """Sign a browser out; the caller has the hub end what it opened.

        Raises:
            NotFound: there is no such session, or it is another's and `by` is no administrator.
        """
        c = web_sessions.c
        mine = [c.session_id == session_id, c.revoked_at.is_(None)]
        if not by.is_admin:
            mine.append(c.user == by.user)

        async def revoke(connection: AsyncConnection) -> None:
            done = await connection.execute(
                update(web_sessions)
                .where(*mine)
                .values(revoked_at=self._clock.now().wall, revoked_by=by.actor())
            )
            if done.rowcount == 0:
                raise NotFound(
                    "session_not_found", f"there is no session {session_id[:40]!r} of yours"
                )

        await self._store.write(revoke)
        self._written.pop(session_id, None)


class KnownSession(WebSessionRow, frozen=True, kw_only=True):
    """A session, with what speaks against its user and the token that it was begun with."""

    role: Role
    user_revoked_at: float | None
    user_revoked_by: str | None
    token_revoked_at: float | None
    token_expires_at: float | None


class KnownLink(SignInLinkRow, frozen=True, kw_only=True):
    """A sign-in link, with what speaks against its user and the token of whoever asked for it."""

    role: Role
    user_revoked_at: float | None
    user_revoked_by: str | None
    token_revoked_at: float | None
    token_expires_at: float | None


def _with_origin(table: Table) -> Select[Any]:
    """Rows of `table` with what speaks against their user and the token that they stand or fall with."""
    return select(
        table,
        users.c.role,
        users.c.revoked_at.label("user_revoked_at"),
        users.c.revoked_by.label("user_revoked_by"),
        tokens.c.revoked_at.label("token_revoked_at"),
        tokens.c.expires_at.label("token_expires_at"),
    ).select_from(
        table.join(users, users.c.name == table.c.user).outerjoin(
            tokens, tokens.c.token_id == table.c.token_id
        )
    )


def _origin_refusal(found: KnownSession | KnownLink, now: float) -> TokenRejected | None:
    if found.user_revoked_at is not None:
        return TokenRejected(
            "user_revoked",
            f"the access of {found.user} was withdrawn ({found.user_revoked_by}): ask an"
            " administrator",
        )
    if found.token_revoked_at is not None:
        return TokenRejected(
            "token_revoked", "the token that you signed in with was revoked: use a new one"
        )
    if found.token_expires_at is not None and found.token_expires_at <= now:
        return TokenRejected(
            "token_expired",
            f"the token that you signed in with expired at {iso(found.token_expires_at)}: make a"
            " new one",
        )
    return None


def _refusal(found: KnownSession, now: float) -> TokenRejected | None:
    if refusal := _origin_refusal(found, now):
        return refusal
    over = found.revoked_at is not None or found.expires_at <= now
    return SIGNED_OUT if over or found.last_seen_at <= now - UNUSED_S else None


async def _find(connection: AsyncConnection, secret_hash: str) -> KnownSession | None:
    query = _with_origin(web_sessions).where(web_sessions.c.secret_hash == secret_hash)
    return await fetch_one(connection, query, KnownSession)


async def _seen(connection: AsyncConnection, session_id: str, at: float) -> None:
    c = web_sessions.c
    await connection.execute(
        update(web_sessions).where(c.session_id == session_id).values(last_seen_at=at)
    )


async def origin_of(connection: AsyncConnection, identity: Identity) -> str:
    """The token behind `identity`: its own, or the one that its session was begun with."""
    c = web_sessions.c
    found = select(c.token_id).where(c.session_id == identity.token_id)
    of_session: str | None = await connection.scalar(found)
    return identity.token_id if of_session is None else of_session
