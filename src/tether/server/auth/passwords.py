"""Passwords, for those who want one: set by their owner, kept as argon2id.

Law: a password is checked in a thread, one at a time: a check takes a quarter of a second and 64 MiB by
design, which would be an outage on the loop and a way to exhaust memory beside it. What is wrong about a
sign-in is not told apart: an unknown name takes as long as a wrong password and reads the same.
"""

from __future__ import annotations

import asyncio

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.net.clock import Clock
from tether.server.db.store import Store
from tether.server.db.tables.accounts import Role, users
from tether.server.db.tables.web import passwords
from tether.server.errors import Invalid
from tether.server.identity import Identity, TokenRejected

SHORTEST, LONGEST = 12, 256
"""Characters of a password (NIST SP 800-63B asks for no other rule than a length)."""

WRONG = TokenRejected("password_wrong", "the name or the password is wrong")

_NOBODYS = "$argon2id$v=19$m=65536,t=3,p=4$AAAAAAAAAAAAAAAAAAAAAA$" + "A" * 43
"""Checked where there is no hash, so that its absence takes as long."""


class Passwords:
    """The passwords of users."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._hasher = PasswordHasher()
        self._one_at_a_time = asyncio.Lock()

    async def set(self, user: str, password: str) -> None:
        """Give `user` a password, in the place of an earlier one.

        Raises:
            Invalid: it is too short or too long.
        """
        if not SHORTEST <= len(password) <= LONGEST:
            raise Invalid("bad_password", f"a password has {SHORTEST} to {LONGEST} characters")
        async with self._one_at_a_time:
            hashed = await asyncio.to_thread(self._hasher.hash, password)

        async def keep(connection: AsyncConnection) -> None:
            await connection.execute(delete(passwords).where(passwords.c.user == user))
            await connection.execute(
                insert(passwords).values(user=user, hash=hashed, changed_at=self._clock.now().wall)
            )

        await self._store.write(keep)

    async def remove(self, user: str) -> None:
        """Let `user` sign in by token and link only."""
        await self._store.write(
            lambda connection: connection.execute(delete(passwords).where(passwords.c.user == user))
        )

    async def check(self, user: str, password: str) -> Identity | TokenRejected:
        """Whom this name and password sign in."""
        c = passwords.c
        wanted = (
            select(c.hash, users.c.role, users.c.revoked_at)
            .select_from(passwords.join(users, users.c.name == c.user))
            .where(c.user == user)
        )

        async def fetch(connection: AsyncConnection) -> tuple[str, str, float | None] | None:
            row = (await connection.execute(wanted)).one_or_none()
            return None if row is None else tuple(row)

        found = await self._store.read(fetch)
        hashed, role, revoked_at = (_NOBODYS, Role.MEMBER, 0.0) if found is None else found
        async with self._one_at_a_time:
            right = await asyncio.to_thread(self._verify, hashed, password[:LONGEST])
        if not right or revoked_at is not None:
            return WRONG
        return Identity(kind="user", user=user, role="admin" if role == Role.ADMIN else "member")

    def _verify(self, hashed: str, password: str) -> bool:
        try:
            return self._hasher.verify(hashed, password)
        except (VerificationError, InvalidHashError):
            return False
