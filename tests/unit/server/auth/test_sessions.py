"""Browsers that are signed in, and everything that ends that."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.server.parts import Parts, parts
from tether.server.auth.passwords import Passwords
from tether.server.auth.sessions import LIFE_S, LINK_LIFE_S, UNUSED_S
from tether.server.db.tables.accounts import Role
from tether.server.db.tables.web import SignInMethod
from tether.server.errors import Invalid, NotFound
from tether.server.identity import Identity, TokenRejected

pytestmark = pytest.mark.anyio

ADMIN = Identity(kind="user", user="admin", role="admin")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Parts]:
    async with parts(tmp_path) as made:
        await made.accounts.bootstrap(tmp_path)
        yield made


async def alice(server: Parts) -> Identity:
    """A member, by her token."""
    issued = await server.accounts.create_user("alice", Role.MEMBER, ADMIN)
    found = await server.accounts.authenticate(issued.token)
    assert isinstance(found, Identity)
    return found


async def begin(server: Parts, who: Identity) -> str:
    issued, _ = await server.accounts.sessions.begin(
        who, SignInMethod.TOKEN, client_ip="10.0.0.9", user_agent="a browser"
    )
    return issued.token


async def code(server: Parts, secret: str) -> str:
    """Why a secret is refused; "" where it is not."""
    found = await server.accounts.authenticate(secret)
    return found.code if isinstance(found, TokenRejected) else ""


async def test_a_session_speaks_for_its_user_under_its_own_id(server: Parts) -> None:
    who = await alice(server)
    found = await server.accounts.authenticate(await begin(server, who))
    assert isinstance(found, Identity)
    (listed,) = await server.accounts.sessions.list("alice")
    assert (found.user, found.role, found.token_id) == ("alice", "member", listed.session_id)
    assert (listed.client_ip, listed.user_agent, listed.method) == (
        "10.0.0.9",
        "a browser",
        SignInMethod.TOKEN,
    )


async def test_what_is_withdrawn_is_refused_from_the_next_request_on(server: Parts) -> None:
    who = await alice(server)
    first, second = await begin(server, who), await begin(server, who)
    session = await server.accounts.authenticate(first)
    assert isinstance(session, Identity)
    await server.accounts.sessions.end(session.token_id, session)
    assert (await code(server, first), await code(server, second)) == ("session_over", "")
    await server.accounts.revoke_token(who.token_id, who)
    assert await code(server, second) == "token_revoked"
    third = await begin(server, ADMIN)
    await server.accounts.revoke_user("alice", ADMIN)
    assert (await code(server, second), await code(server, third)) == ("user_revoked", "")


async def test_a_session_ends_by_age_and_by_disuse(server: Parts) -> None:
    secret = await begin(server, ADMIN)
    for _ in range(int(LIFE_S // UNUSED_S)):
        server.clock.mono += UNUSED_S - 1
        assert await code(server, secret) == ""
    server.clock.mono += UNUSED_S - 1
    assert await code(server, secret) == "session_over"
    unused = await begin(server, ADMIN)
    server.clock.mono += UNUSED_S + 1
    assert await code(server, unused) == "session_over"


async def test_only_its_owner_and_administrators_end_a_session(server: Parts) -> None:
    who = await alice(server)
    await begin(server, who)
    (listed,) = await server.accounts.sessions.list("alice")
    bob = Identity(kind="user", user="bob", role="member")
    with pytest.raises(NotFound):
        await server.accounts.sessions.end(listed.session_id, bob)
    await server.accounts.sessions.end(listed.session_id, ADMIN)
    assert await server.accounts.sessions.list("alice") == []


async def test_a_link_works_once_and_for_a_short_time(server: Parts) -> None:
    who = await alice(server)
    link = await server.accounts.sessions.make_link(who)
    assert link.secret not in repr(link)
    found = await server.accounts.sessions.redeem(link.secret)
    assert isinstance(found, Identity)
    assert (found.user, found.token_id) == ("alice", who.token_id)
    again = await server.accounts.sessions.redeem(link.secret)
    assert isinstance(again, TokenRejected)
    late = await server.accounts.sessions.make_link(who)
    server.clock.mono += LINK_LIFE_S + 1
    assert isinstance(await server.accounts.sessions.redeem(late.secret), TokenRejected)


async def test_a_link_of_a_withdrawn_token_signs_nobody_in(server: Parts) -> None:
    who = await alice(server)
    link = await server.accounts.sessions.make_link(who)
    await server.accounts.revoke_token(who.token_id, who)
    found = await server.accounts.sessions.redeem(link.secret)
    assert isinstance(found, TokenRejected)
    assert found.code == "token_revoked"


async def test_a_password_is_checked_and_a_missing_one_reads_the_same(server: Parts) -> None:
    await alice(server)
    passwords = Passwords(server.store, server.clock)
    with pytest.raises(Invalid, match="12 to 256"):
        await passwords.set("alice", "short")
    await passwords.set("alice", "correct horse battery")
    assert isinstance(await passwords.check("alice", "correct horse battery"), Identity)
    wrong = await passwords.check("alice", "incorrect horse battery")
    assert wrong == await passwords.check("nobody", "correct horse battery")
    assert isinstance(wrong, TokenRejected)
    await passwords.remove("alice")
    assert await passwords.check("alice", "correct horse battery") == wrong
