"""Users and tokens: who may come in, and the proof of it.

Law: a token is shown once, to whoever asked for it, and kept only as its SHA-256; it never reaches a
log line or an error. Nothing is cached, so what was revoked is refused from the next request on. A
name that was used is never given to another user: the record of connections names people for ever.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import bindparam, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.attribution.causes.codes import AUTH_USER_REVOKED
from tether.log import get_logger
from tether.net.clock import Clock
from tether.server.auth import admission, relay_tokens
from tether.server.auth.credentials import RELAY, IssuedToken, digest, keep_new, mint, well_formed
from tether.server.auth.sessions import SESSION, Sessions, origin_of
from tether.server.db.fetch import fetch_all, fetch_one
from tether.server.db.store import Store, StoreUnavailable
from tether.server.db.tables.accounts import Role, TokenKind, TokenRow, UserRow, tokens, users
from tether.server.db.tables.web import web_sessions
from tether.server.db.tables.workspaces import IntentKind, intents
from tether.server.errors import Conflict, Forbidden, Invalid, NotFound
from tether.server.identity import Identity, TokenRejected

__all__ = [
    "Accounts",
    "Identity",
    "IssuedToken",
    "Rotated",
    "TokenInfo",
    "TokenRejected",
]

ADMIN = "admin"
ADMIN_TOKEN_FILE = "admin-token"

USES_KEPT_FOR_S = 60.0
"""How long `last_used_at` may wait in memory: a write for each request would be too many."""

REPLACED_S = 600.0
"""How long an agent's token is good after another one was made, which has to reach the agent."""

MAX_TOKEN_LIFE_S = 10 * 366 * 86400.0

_USER_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,30}[a-z0-9])?")
_log = get_logger("accounts")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenInfo:
    """A token, without the token."""

    token_id: str
    label: str
    created_at: float
    expires_at: float | None
    last_used_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotated:
    """A workspace's new agent token, and the ids of the ones that it replaced."""

    issued: IssuedToken
    replaced: tuple[str, ...]


class Accounts:
    """Users, their tokens, and the tokens of agents."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self.sessions = Sessions(store, clock)
        self._uses: dict[str, float] = {}
        self._uses_since = clock.now().mono

    # -- the first start --------------------------------------------------------------------

    async def bootstrap(self, data_dir: Path) -> str | None:
        """Make the first administrator, whose token is then in `data_dir/admin-token`.

        Returns:
            The token that the file holds; None if it was made earlier and the file was removed.

        Raises:
            ValueError: there is no user yet, and the file holds something that is no token.
            OSError: the file cannot be written or read.
            StoreUnavailable: the database cannot be written.
        """
        path = data_dir / ADMIN_TOKEN_FILE

        async def make(connection: AsyncConnection) -> str | None:
            if await connection.scalar(select(func.count()).select_from(users)):
                return path.read_text().strip() if path.exists() else None
            fresh = mint(TokenKind.USER)
            # The file first: a start that is cut off here finds it and takes it the next time.
            issued = IssuedToken(token_id=fresh.token_id, token=keep_new(path, fresh.token))
            now = self._clock.now().wall
            await connection.execute(
                insert(users).values(name=ADMIN, role=Role.ADMIN, created_at=now)
            )
            await self._keep(connection, issued, TokenKind.USER, ADMIN, ADMIN_TOKEN_FILE, None)
            return issued.token

        return await self._store.write(make)

    # -- coming in --------------------------------------------------------------------------

    async def authenticate(self, token: str) -> Identity | TokenRejected:
        """Who `token` speaks for, or why it is not accepted.

        Raises:
            StoreUnavailable: the database cannot be read now.
        """
        if not token:
            return admission.MISSING
        if not well_formed(token):
            return admission.UNKNOWN
        if token.startswith(SESSION):
            return await self.sessions.authenticate(token)
        wanted = digest(token)
        if token.startswith(f"tether_{RELAY}_"):
            return await self._authenticate_relay(wanted)
        found = await self._store.read(lambda connection: admission.find(connection, wanted))
        if found is None or not hmac.compare_digest(found.token_hash, wanted):
            return admission.UNKNOWN
        now = self._clock.now().wall
        if refusal := admission.refusal(found, now):
            return refusal
        self._uses[found.token_id] = now
        await self._flush_uses_now_and_then()
        return admission.identity(found)

    async def _authenticate_relay(self, wanted: str) -> Identity | TokenRejected:
        found = await self._store.read(lambda connection: relay_tokens.find(connection, wanted))
        if found is None or not hmac.compare_digest(found.token_hash, wanted):
            return admission.UNKNOWN
        return relay_tokens.identity_of(found, self._clock.now().wall)

    # -- users ------------------------------------------------------------------------------

    async def create_user(self, name: str, role: Role, by: Identity) -> IssuedToken:
        """A new user with a first token.

        Raises:
            Forbidden, Invalid, Conflict: `by` may not, the name is no name, or was used before.
        """
        _only_admins(by)
        if _USER_NAME.fullmatch(name) is None:
            raise Invalid(
                "bad_name",
                f"{name[:40]!r} cannot be a user's name: use 1 to 32 of a-z, 0-9, '.', '_' and '-',"
                " with a letter or a digit at both ends",
            )

        async def make(connection: AsyncConnection) -> IssuedToken:
            known = await _find_user(connection, name)
            if known is not None:
                was = "exists already" if known.revoked_at is None else "existed before"
                raise Conflict(
                    "user_exists",
                    f"a user {name} {was}, and names are not used twice: take another",
                )
            now = self._clock.now().wall
            await connection.execute(insert(users).values(name=name, role=role, created_at=now))
            await _intend(connection, IntentKind.CREATE_USER, name, "", by, now)
            issued = mint(TokenKind.USER)
            await self._keep(connection, issued, TokenKind.USER, name, "first token", None)
            return issued

        return await self._store.write(make)

    async def list_users(self, by: Identity) -> list[UserRow]:
        """Everybody, revoked users included, by name.

        Raises:
            Forbidden: `by` is no administrator.
        """
        _only_admins(by)

        wanted = select(users).order_by(users.c.name)
        return await self._store.read(lambda tx: fetch_all(tx, wanted, UserRow))

    async def revoke_user(self, name: str, by: Identity) -> None:
        """Withdraw a user's access: every token of theirs is refused from now on.

        The caller has the hub end afterwards what the user has open.

        Raises:
            Forbidden, NotFound, Conflict: `by` may not, no such user, or the last administrator.
        """
        _only_admins(by)

        async def revoke(connection: AsyncConnection) -> None:
            known = await _find_user(connection, name)
            if known is None:
                raise NotFound("user_not_found", f"there is no user {name[:40]!r}")
            if known.revoked_at is not None:
                return
            if known.role is Role.ADMIN and await _live_admins(connection) == 1:
                raise Conflict(
                    "last_admin",
                    f"{name} is the last administrator: make another one before you revoke this one",
                )
            now = self._clock.now().wall
            await connection.execute(
                update(users)
                .where(users.c.name == name)
                .values(revoked_at=now, revoked_by=by.actor())
            )
            await _intend(connection, IntentKind.REVOKE_USER, name, AUTH_USER_REVOKED, by, now)

        await self._store.write(revoke)

    # -- tokens -----------------------------------------------------------------------------

    async def issue_token(
        self,
        user: str,
        label: str,
        expires_in_s: float | None = None,
        *,
        made_with: Identity | None = None,
    ) -> IssuedToken:
        """Another token for `user`, which does not outlive the token that it is `made_with`: it runs
        out no later, and falls with it.

        Raises:
            Invalid: the label is empty or too long, or the life is not between 1 s and ten years.
            Forbidden: the token that it is made with was withdrawn meanwhile.
        """
        _check_new_token(label, expires_in_s)
        issued = mint(TokenKind.USER)

        async def keep(connection: AsyncConnection) -> None:
            parent = None if made_with is None else await find_origin(connection, made_with)
            await self._keep(connection, issued, TokenKind.USER, user, label, expires_in_s, parent)

        await self._store.write(keep)
        return issued

    async def issue_relay_token(
        self, label: str, by: Identity, expires_in_s: float | None = None
    ) -> IssuedToken:
        """A token for a standalone relay.

        Raises:
            Forbidden, Invalid: `by` is no administrator, or as `issue_token`.
        """
        _only_admins(by)
        _check_new_token(label, expires_in_s)
        return await relay_tokens.issue(self._store, self._clock, label, expires_in_s, by)

    async def list_relay_tokens(self, by: Identity) -> list[TokenInfo]:
        """The relays' tokens that are not revoked, oldest first.

        Raises:
            Forbidden: `by` is no administrator.
        """
        _only_admins(by)
        return [
            TokenInfo(
                token_id=row.token_id,
                label=row.label,
                created_at=row.created_at,
                expires_at=row.expires_at,
                last_used_at=None,
            )
            for row in await relay_tokens.listed(self._store)
        ]

    async def list_tokens(self, user: str) -> list[TokenInfo]:
        """The tokens of `user` that are not revoked, oldest first."""
        wanted = (
            select(tokens)
            .where(tokens.c.user == user, tokens.c.revoked_at.is_(None))
            .order_by(tokens.c.created_at, tokens.c.token_id)
        )

        rows = await self._store.read(lambda tx: fetch_all(tx, wanted, TokenRow))
        return [
            TokenInfo(
                token_id=row.token_id,
                label=row.label,
                created_at=row.created_at,
                expires_at=row.expires_at,
                last_used_at=self._uses.get(row.token_id, row.last_used_at),
            )
            for row in rows
        ]

    async def revoke_token(self, token_id: str, by: Identity) -> frozenset[str]:
        """Refuse a token from now on, and every token that was made with it; the caller has the hub
        end what they opened.

        Returns:
            The ids of what is refused now: these tokens, and the browsers that were signed in with them.

        Raises:
            NotFound: no such token, or it is another's and `by` is no administrator.
        """

        async def revoke(connection: AsyncConnection) -> frozenset[str]:
            mine = select(tokens.c.token_id).where(
                tokens.c.token_id == token_id, tokens.c.revoked_at.is_(None)
            )
            if not by.is_admin:
                mine = mine.where(tokens.c.user == by.user)
            if await connection.scalar(mine) is None:
                now = self._clock.now().wall
                if by.is_admin and await relay_tokens.revoke(connection, token_id, now):
                    return frozenset({token_id})
                raise NotFound("token_not_found", f"there is no token {token_id[:40]!r} of yours")
            fallen = await _made_with(connection, token_id)
            await self._revoke(connection, fallen, by)
            browsers = select(web_sessions.c.session_id).where(web_sessions.c.token_id.in_(fallen))
            return frozenset((*fallen, *(await connection.scalars(browsers))))

        return await self._store.write(revoke)

    async def rotate_agent_token(
        self,
        connection: AsyncConnection,
        workspace_id: str,
        by: Identity,
        *,
        at_once: bool = False,
    ) -> Rotated:
        """A new token for a workspace's agent, within the caller's transaction. The old ones are
        refused `at_once`, or run out in `REPLACED_S`."""
        of_agent = (tokens.c.workspace_id == workspace_id, tokens.c.revoked_at.is_(None))
        live = select(tokens.c.token_id).where(*of_agent)
        if not at_once:  # one that runs out already was replaced before
            live = live.where(tokens.c.expires_at.is_(None))
        replaced = tuple((await connection.scalars(live)).all())
        if at_once:
            await self._revoke(connection, replaced, by)
        else:
            until = self._clock.now().wall + REPLACED_S
            await connection.execute(
                update(tokens).where(tokens.c.token_id.in_(replaced)).values(expires_at=until)
            )
        issued = mint(TokenKind.AGENT)
        await self._keep(connection, issued, TokenKind.AGENT, workspace_id, "agent", None)
        return Rotated(issued=issued, replaced=replaced)

    async def flush_uses(self) -> None:
        """Write down when tokens were last used. Call before the store is closed."""
        uses, self._uses = self._uses, {}
        self._uses_since = self._clock.now().mono
        if not uses:
            return
        statement = (
            update(tokens)
            .where(tokens.c.token_id == bindparam("used_token"))
            .values(last_used_at=bindparam("used_at"))
        )
        rows = [{"used_token": token_id, "used_at": at} for token_id, at in uses.items()]

        async def note(connection: AsyncConnection) -> None:
            await connection.execute(statement, rows)

        try:
            await self._store.write(note)
        except StoreUnavailable as wrong:
            # When a token was used is a convenience; nobody is kept out for it.
            self._uses = {**uses, **self._uses}
            _log.warning("last use of tokens not written", error=str(wrong))

    async def _flush_uses_now_and_then(self) -> None:
        if self._clock.now().mono - self._uses_since >= USES_KEPT_FOR_S:
            await self.flush_uses()

    async def _keep(
        self,
        connection: AsyncConnection,
        issued: IssuedToken,
        kind: TokenKind,
        whose: str,
        label: str,
        expires_in_s: float | None,
        parent: TokenRow | None = None,
    ) -> None:
        now = self._clock.now().wall
        ends = [] if expires_in_s is None else [now + expires_in_s]
        if parent is not None and parent.expires_at is not None:
            ends.append(parent.expires_at)
        await connection.execute(
            insert(tokens).values(
                token_id=issued.token_id,
                kind=kind,
                token_hash=digest(issued.token),
                user=whose if kind is TokenKind.USER else None,
                workspace_id=whose if kind is TokenKind.AGENT else None,
                label=label,
                created_at=now,
                expires_at=min(ends, default=None),
                parent_id=None if parent is None else parent.token_id,
            )
        )

    async def _revoke(
        self, connection: AsyncConnection, token_ids: Collection[str], by: Identity
    ) -> None:
        await connection.execute(
            update(tokens)
            .where(tokens.c.token_id.in_(token_ids), tokens.c.revoked_at.is_(None))
            .values(revoked_at=self._clock.now().wall, revoked_by=by.actor())
        )


async def _made_with(connection: AsyncConnection, token_id: str) -> list[str]:
    """A token, and every token that was made with it, or with one of those."""
    family = select(tokens.c.token_id).where(tokens.c.token_id == token_id).cte(recursive=True)
    family = family.union(
        select(tokens.c.token_id).join(family, tokens.c.parent_id == family.c.token_id)
    )
    return list(await connection.scalars(select(family.c.token_id)))


async def find_origin(connection: AsyncConnection, identity: Identity) -> TokenRow | None:
    """The token that `identity` stands on: its own, or the one that its browser was signed in with;
    None where that was done with a password.

    Raises:
        Forbidden: it was withdrawn, or has run out.
    """
    token_id = await origin_of(connection, identity)
    if not token_id:
        return None
    found = await fetch_one(
        connection, select(tokens).where(tokens.c.token_id == token_id), TokenRow
    )
    if found is None or found.revoked_at is not None:
        raise Forbidden("token_revoked", "the token that you came with was withdrawn: use another")
    return found


def _check_new_token(label: str, expires_in_s: float | None) -> None:
    if not 0 < len(label) <= 64 or not label.isprintable():
        raise Invalid("bad_name", "a token's name is 1 to 64 printable characters")
    if expires_in_s is not None and not 1 <= expires_in_s <= MAX_TOKEN_LIFE_S:
        raise Invalid("bad_expiry", "a token lives between one second and ten years")


def _only_admins(by: Identity) -> None:
    if not by.is_admin:
        raise Forbidden("admin_only", "only administrators may do this")


async def _find_user(connection: AsyncConnection, name: str) -> UserRow | None:
    return await fetch_one(connection, select(users).where(users.c.name == name), UserRow)


async def _live_admins(connection: AsyncConnection) -> int:
    counted = await connection.scalar(
        select(func.count())
        .select_from(users)
        .where(users.c.role == Role.ADMIN, users.c.revoked_at.is_(None))
    )
    return counted or 0


async def _intend(
    connection: AsyncConnection, kind: IntentKind, name: str, cause: str, by: Identity, at: float
) -> None:
    await connection.execute(
        insert(intents).values(
            kind=kind, subject=name, cause=cause, actor=by.actor(), requested_by=by.actor(), at=at
        )
    )
