"""Tokens of standalone relays: made, listed and revoked by administrators.

Law: as for other tokens: shown once, kept only as SHA-256, refused from the next request on when
revoked. A relay's token lets a relay in and nothing else.
"""

from __future__ import annotations

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.net.clock import Clock
from tether.server.auth.credentials import RELAY, IssuedToken, digest, mint
from tether.server.db.fetch import fetch_all, fetch_one
from tether.server.db.store import Store
from tether.server.db.tables.relays import RelayTokenRow, relay_tokens
from tether.server.identity import Identity, TokenRejected
from tether.server.times import iso


async def find(connection: AsyncConnection, token_hash: str) -> RelayTokenRow | None:
    """The relay token with this hash."""
    query = select(relay_tokens).where(relay_tokens.c.token_hash == token_hash)
    return await fetch_one(connection, query, RelayTokenRow)


def identity_of(found: RelayTokenRow, now: float) -> Identity | TokenRejected:
    """The identity behind a stored relay token, or why it is refused."""
    if found.revoked_at is not None:
        return TokenRejected("token_revoked", "this relay's token was revoked: use a new one")
    if found.expires_at is not None and found.expires_at <= now:
        return TokenRejected(
            "token_expired", f"this token expired at {iso(found.expires_at)}: make a new one"
        )
    return Identity(kind="relay", user=found.label, role="member", token_id=found.token_id)


async def issue(
    store: Store, clock: Clock, label: str, expires_in_s: float | None, by: Identity
) -> IssuedToken:
    """A new token; the caller has checked its name, its life, and who asks."""
    issued, now = mint(RELAY), clock.now().wall

    async def keep(connection: AsyncConnection) -> None:
        await connection.execute(
            insert(relay_tokens).values(
                token_id=issued.token_id,
                token_hash=digest(issued.token),
                label=label,
                created_at=now,
                created_by=by.actor(),
                expires_at=None if expires_in_s is None else now + expires_in_s,
            )
        )

    await store.write(keep)
    return issued


async def listed(store: Store) -> list[RelayTokenRow]:
    """The tokens that are not revoked, oldest first."""
    wanted = (
        select(relay_tokens)
        .where(relay_tokens.c.revoked_at.is_(None))
        .order_by(relay_tokens.c.created_at, relay_tokens.c.token_id)
    )

    return await store.read(lambda tx: fetch_all(tx, wanted, RelayTokenRow))


async def revoke(connection: AsyncConnection, token_id: str, now: float) -> bool:
    """Refuse a token from now on; False if there is no such token."""
    changed = await connection.execute(
        update(relay_tokens)
        .where(relay_tokens.c.token_id == token_id, relay_tokens.c.revoked_at.is_(None))
        .values(revoked_at=now)
    )
    return bool(changed.rowcount)
