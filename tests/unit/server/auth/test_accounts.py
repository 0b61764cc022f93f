"""Who may come in: tokens at rest, refusals and what they say, and users."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import RowMapping, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.support.clock import EPOCH, HandClock
from tests.support.server.parts import Parts, parts
from tether.server.auth.accounts import TokenInfo
from tether.server.auth.credentials import IssuedToken, digest
from tether.server.auth.throttle import FailureThrottle
from tether.server.db.tables.accounts import Role, UserRow, tokens
from tether.server.db.tables.workspaces import intents
from tether.server.errors import Conflict, Forbidden, Invalid, NotFound, RequestError
from tether.server.identity import Identity, TokenRejected

pytestmark = pytest.mark.anyio

ADMIN = Identity(kind="user", user="admin", role="admin")
ALICE = Identity(kind="user", user="alice", role="member")
NOBODYS = "tether_user_" + "A" * 43


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Parts]:
    async with parts(tmp_path) as made:
        await made.accounts.bootstrap(tmp_path)
        yield made


async def _refusal(server: Parts, token: str) -> TokenRejected:
    refused = await server.accounts.authenticate(token)
    assert isinstance(refused, TokenRejected), refused
    return refused


# -- the first start --------------------------------------------------------------------------


async def test_the_first_start_makes_an_administrator_and_a_private_file(tmp_path: Path) -> None:
    async with parts(tmp_path) as server:
        token = await server.accounts.bootstrap(tmp_path)
        assert token is not None
        file = tmp_path / "admin-token"
        assert file.read_text() == token + "\n"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        identity = await server.accounts.authenticate(token)
        assert isinstance(identity, Identity)
        assert (identity.kind, identity.user, identity.role) == ("user", "admin", "admin")


async def test_the_file_is_private_whatever_the_umask_is(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        async with parts(tmp_path) as server:
            await server.accounts.bootstrap(tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "admin-token").stat().st_mode) == 0o600


async def test_a_second_start_makes_nothing_new(server: Parts, tmp_path: Path) -> None:
    token = (tmp_path / "admin-token").read_text().strip()
    assert await server.accounts.bootstrap(tmp_path) == token
    assert [user.name for user in await server.accounts.list_users(ADMIN)] == ["admin"]


async def test_a_removed_file_stays_removed(server: Parts, tmp_path: Path) -> None:
    (tmp_path / "admin-token").unlink()
    assert await server.accounts.bootstrap(tmp_path) is None
    assert not (tmp_path / "admin-token").exists()


async def test_a_start_that_was_cut_off_after_the_file_takes_its_token(tmp_path: Path) -> None:
    (tmp_path / "admin-token").write_text(NOBODYS + "\n")
    async with parts(tmp_path) as server:
        assert await server.accounts.bootstrap(tmp_path) == NOBODYS
        assert isinstance(await server.accounts.authenticate(NOBODYS), Identity)
    assert stat.S_IMODE((tmp_path / "admin-token").stat().st_mode) == 0o600


async def test_a_file_that_holds_no_token_stops_the_first_start(tmp_path: Path) -> None:
    (tmp_path / "admin-token").write_text("hunter2\n")
    async with parts(tmp_path) as server:
        with pytest.raises(ValueError, match="holds no user's token"):
            await server.accounts.bootstrap(tmp_path)
        assert isinstance(await server.accounts.authenticate(NOBODYS), TokenRejected)


# -- tokens at rest ---------------------------------------------------------------------------


async def test_a_token_is_nowhere_in_the_database_files(server: Parts, tmp_path: Path) -> None:
    admin = (tmp_path / "admin-token").read_text().strip()
    user = await server.accounts.create_user("alice", Role.MEMBER, ADMIN)
    made = await server.workspaces.create("dev", ALICE)
    issued = await server.accounts.issue_token("alice", "laptop")
    await server.accounts.authenticate(issued.token)
    on_disk = b"".join(file.read_bytes() for file in tmp_path.glob("server.db*"))
    await server.store.close()
    on_disk += server.path.read_bytes()
    for token in (admin, user.token, made.agent_token, issued.token):
        secret = token.split("_", 2)[2]
        assert token.encode() not in on_disk
        assert secret.encode() not in on_disk
        assert digest(token).encode() in on_disk


def test_a_token_does_not_show_in_a_repr() -> None:
    issued = IssuedToken(token_id="1f", token=NOBODYS)
    assert repr(issued) == "IssuedToken(token_id='1f')"


# -- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "token",
    ["", "hunter2", NOBODYS, NOBODYS + "x", "tether_root_" + "A" * 43, "tether_user_\0" * 5],
)
async def test_what_is_no_token_of_ours_is_unknown(server: Parts, token: str) -> None:
    assert (await _refusal(server, token)).code == "token_unknown"


async def test_a_revoked_token_is_refused_at_once(server: Parts) -> None:
    await server.accounts.create_user("alice", Role.MEMBER, ADMIN)
    issued = await server.accounts.issue_token("alice", "laptop")
    assert isinstance(await server.accounts.authenticate(issued.token), Identity)
    await server.accounts.revoke_token(issued.token_id, ALICE)
    assert await _refusal(server, issued.token) == TokenRejected(
        "token_revoked", "this token was revoked: use a new one"
    )


async def test_an_expired_token_says_since_when(server: Parts) -> None:
    issued = await server.accounts.issue_token("admin", "short", expires_in_s=60)
    server.clock.mono = 59.9
    assert isinstance(await server.accounts.authenticate(issued.token), Identity)
    server.clock.mono = 60.0
    assert await _refusal(server, issued.token) == TokenRejected(
        "token_expired", "this token expired at 2027-01-15T08:01:00.000Z: make a new one"
    )


async def test_a_revoked_user_is_refused_with_every_token(server: Parts) -> None:
    first = await server.accounts.create_user("alice", Role.MEMBER, ADMIN)
    second = await server.accounts.issue_token("alice", "laptop")
    await server.accounts.revoke_user("alice", ADMIN)
    wanted = TokenRejected(
        "user_revoked", "the access of alice was withdrawn (admin:admin): ask an administrator"
    )
    assert [await _refusal(server, issued.token) for issued in (first, second)] == [wanted] * 2


async def test_the_agent_of_a_deleted_workspace_is_told_so(server: Parts) -> None:
    made = await server.workspaces.create("dev", ADMIN)
    await server.workspaces.delete("dev", ADMIN)
    assert await _refusal(server, made.agent_token) == TokenRejected(
        "workspace_deleted",
        "the workspace dev of this token was deleted: create it again and give its agent the new"
        " token",
    )


# -- agents -----------------------------------------------------------------------------------


async def test_an_agents_token_speaks_for_its_workspace(server: Parts) -> None:
    await server.accounts.create_user("alice", Role.MEMBER, ADMIN)
    made = await server.workspaces.create("dev", ALICE)
    identity = await server.accounts.authenticate(made.agent_token)
    assert isinstance(identity, Identity)
    assert identity == Identity(
        kind="agent",
        user="alice",
        role="member",
        workspace_id=made.workspace_id,
        workspace="dev",
        token_id=identity.token_id,
    )


async def test_the_agent_of_an_administrators_workspace_is_no_administrator(
    server: Parts,
) -> None:
    made = await server.workspaces.create("dev", ADMIN)
    identity = await server.accounts.authenticate(made.agent_token)
    assert isinstance(identity, Identity)
    assert not identity.is_admin


async def test_a_rotated_agent_token_replaces_the_old_one(server: Parts) -> None:
    made = await server.workspaces.create("dev", ADMIN)
    old = await server.accounts.authenticate(made.agent_token)
    assert isinstance(old, Identity)
    rotated = await server.store.write(
        lambda tx: server.accounts.rotate_agent_token(tx, made.workspace_id, ADMIN, at_once=True)
    )
    assert rotated.replaced == (old.token_id,)
    assert (await _refusal(server, made.agent_token)).code == "token_revoked"
    assert isinstance(await server.accounts.authenticate(rotated.issued.token), Identity)


# -- users ------------------------------------------------------------------------------------


async def test_users_are_listed_with_what_became_of_them(server: Parts) -> None:
    await server.accounts.create_user("alice", Role.MEMBER, ADMIN)
    server.clock.mono = 5.0
    await server.accounts.revoke_user("alice", ADMIN)
    assert await server.accounts.list_users(ADMIN) == [
        UserRow(
            name="admin",
            role=Role.ADMIN,
            created_at=EPOCH,
            revoked_at=None,
            revoked_by=None,
        ),
        UserRow(
            name="alice",
            role=Role.MEMBER,
            created_at=EPOCH,
            revoked_at=EPOCH + 5,
            revoked_by="admin:admin",
        ),
    ]


async def test_only_administrators_manage_users(server: Parts) -> None:
    for attempt in (
        server.accounts.create_user("mallory", Role.ADMIN, ALICE),
        server.accounts.list_users(ALICE),
        server.accounts.revoke_user("admin", ALICE),
    ):
        with pytest.raises(Forbidden):
            await attempt


async def test_a_name_is_never_given_to_another_user(server: Parts) -> None:
    await server.accounts.create_user("alice", Role.MEMBER, ADMIN)
    with pytest.raises(Conflict, match="alice exists already"):
        await server.accounts.create_user("alice", Role.MEMBER, ADMIN)
    await server.accounts.revoke_user("alice", ADMIN)
    with pytest.raises(Conflict, match="alice existed before"):
        await server.accounts.create_user("alice", Role.MEMBER, ADMIN)


@pytest.mark.parametrize("name", ["", "Alice", "a b", "-a", "a-", "a" * 33, "a:b", "a\n", "é"])
async def test_what_is_no_name_is_refused(server: Parts, name: str) -> None:
    with pytest.raises(Invalid):
        await server.accounts.create_user(name, Role.MEMBER, ADMIN)


async def test_the_last_administrator_cannot_be_revoked(server: Parts) -> None:
    with pytest.raises(Conflict, match="last administrator"):
        await server.accounts.revoke_user("admin", ADMIN)
    await server.accounts.create_user("root", Role.ADMIN, ADMIN)
    await server.accounts.revoke_user("admin", ADMIN)
    with pytest.raises(Conflict, match="last administrator"):
        await server.accounts.revoke_user("root", ADMIN)


async def test_who_made_and_revoked_users_is_written_down(server: Parts) -> None:
    await server.accounts.create_user("alice", Role.MEMBER, ADMIN)
    await server.accounts.revoke_user("alice", ADMIN)
    await server.accounts.revoke_user("alice", ADMIN)  # again: changes nothing

    async def fetch(connection: AsyncConnection) -> list[tuple[object, ...]]:
        columns = (intents.c.kind, intents.c.subject, intents.c.cause, intents.c.requested_by)
        rows = (await connection.execute(select(*columns).order_by(intents.c.id))).all()
        return [tuple(row) for row in rows]

    assert await server.store.read(fetch) == [
        ("create_user", "alice", "", "admin:admin"),
        ("revoke_user", "alice", "auth.user_revoked", "admin:admin"),
    ]


# -- tokens -----------------------------------------------------------------------------------


async def test_own_tokens_are_listed_without_the_tokens(server: Parts) -> None:
    await server.accounts.create_user("alice", Role.MEMBER, ADMIN)
    server.clock.mono = 1.0
    kept = await server.accounts.issue_token("alice", "laptop", expires_in_s=60)
    gone = await server.accounts.issue_token("alice", "old")
    await server.accounts.revoke_token(gone.token_id, ALICE)
    server.clock.mono = 2.0
    await server.accounts.authenticate(kept.token)
    first, laptop = await server.accounts.list_tokens("alice")
    assert first.label == "first token"
    assert laptop == TokenInfo(
        token_id=kept.token_id,
        label="laptop",
        created_at=EPOCH + 1,
        expires_at=EPOCH + 61,
        last_used_at=EPOCH + 2,
    )


async def test_a_member_cannot_revoke_anothers_token(server: Parts) -> None:
    await server.accounts.create_user("alice", Role.MEMBER, ADMIN)
    admins = await server.accounts.issue_token("admin", "laptop")
    with pytest.raises(NotFound):
        await server.accounts.revoke_token(admins.token_id, ALICE)
    assert isinstance(await server.accounts.authenticate(admins.token), Identity)


async def test_an_administrator_can_revoke_any_token_once(server: Parts) -> None:
    alices = await server.accounts.create_user("alice", Role.MEMBER, ADMIN)
    await server.accounts.revoke_token(alices.token_id, ADMIN)
    assert (await _refusal(server, alices.token)).code == "token_revoked"
    with pytest.raises(NotFound):
        await server.accounts.revoke_token(alices.token_id, ADMIN)


@pytest.mark.parametrize(
    ("label", "life"), [("", None), ("x" * 65, None), ("a\nb", None), ("a", 0), ("a", 1e12)]
)
async def test_a_token_needs_a_name_and_a_sensible_life(
    server: Parts, label: str, life: float | None
) -> None:
    with pytest.raises(RequestError):
        await server.accounts.issue_token("admin", label, life)


async def test_last_use_is_written_down_once_a_minute_not_for_each_request(
    server: Parts,
) -> None:
    issued = await server.accounts.issue_token("admin", "laptop")

    async def stored() -> object:
        async def fetch(connection: AsyncConnection) -> RowMapping:
            wanted = select(tokens).where(tokens.c.token_id == issued.token_id)
            return (await connection.execute(wanted)).mappings().one()

        return (await server.store.read(fetch))["last_used_at"]

    server.clock.mono = 10.0
    await server.accounts.authenticate(issued.token)
    assert await stored() is None
    server.clock.mono = 61.0
    await server.accounts.authenticate(issued.token)
    assert await stored() == EPOCH + 61
    server.clock.mono = 62.0
    await server.accounts.authenticate(issued.token)
    assert await stored() == EPOCH + 61
    await server.accounts.flush_uses()
    assert await stored() == EPOCH + 62


# -- actors and the throttle ------------------------------------------------------------------


def test_an_administrator_is_an_administrator_only_on_what_is_anothers() -> None:
    assert [ADMIN.actor(owner="alice"), ADMIN.actor(owner="admin"), ADMIN.actor()] == [
        "admin:admin",
        "user:admin",
        "admin:admin",
    ]
    assert ALICE.actor(owner="alice") == "user:alice"


def test_an_address_that_fails_too_often_is_told_to_wait() -> None:
    clock = HandClock()
    throttle = FailureThrottle(clock, burst=2, refill_per_s=0.5)
    assert [throttle.failed("10.0.0.1") for _ in range(4)] == [0, 0, 2, 2]
    assert throttle.failed("10.0.0.2") == 0
    clock.mono = 2.0
    assert [throttle.failed("10.0.0.1") for _ in range(2)] == [0, 2]


def test_the_throttle_forgets_the_address_that_failed_longest_ago() -> None:
    clock = HandClock()
    throttle = FailureThrottle(clock, burst=1, refill_per_s=0.001, max_addresses=2)
    assert [throttle.failed(a) for a in ("a", "b", "a", "c", "a")] == [0, 0, 1000, 0, 1000]
    assert throttle.failed("b") == 0


async def test_a_token_does_not_outlive_the_one_that_it_was_made_with(server: Parts) -> None:
    parent = await server.accounts.issue_token("admin", "short", expires_in_s=3)
    made_with = await server.accounts.authenticate(parent.token)
    assert isinstance(made_with, Identity)
    child = await server.accounts.issue_token("admin", "child", made_with=made_with)
    far = await server.accounts.issue_token("admin", "far", expires_in_s=60, made_with=made_with)
    near = await server.accounts.issue_token("admin", "near", expires_in_s=1, made_with=made_with)
    told = {info.label: info.expires_at for info in await server.accounts.list_tokens("admin")}
    assert told["child"] == told["far"] == told["short"]
    assert told["near"] is not None
    assert told["short"] is not None
    assert told["near"] < told["short"]
    server.clock.mono = 3.0
    for issued in (child, far, near):
        refused = await server.accounts.authenticate(issued.token)
        assert isinstance(refused, TokenRejected)
        assert refused.code == "token_expired"


async def test_a_token_falls_with_the_one_that_it_was_made_with(server: Parts) -> None:
    made: list[IssuedToken] = [await server.accounts.issue_token("admin", "first")]
    for label in ("child", "grandchild"):
        made_with = await server.accounts.authenticate(made[-1].token)
        assert isinstance(made_with, Identity)
        made.append(await server.accounts.issue_token("admin", label, made_with=made_with))
    other = await server.accounts.issue_token("admin", "other")
    fallen = await server.accounts.revoke_token(made[0].token_id, ADMIN)
    assert fallen == {one.token_id for one in made}
    for issued in made:
        refused = await server.accounts.authenticate(issued.token)
        assert isinstance(refused, TokenRejected)
        assert refused.code == "token_revoked"
    assert isinstance(await server.accounts.authenticate(other.token), Identity)


async def test_what_was_withdrawn_makes_no_tokens(server: Parts) -> None:
    parent = await server.accounts.issue_token("admin", "leaked")
    made_with = await server.accounts.authenticate(parent.token)
    assert isinstance(made_with, Identity)
    await server.accounts.revoke_token(parent.token_id, ADMIN)
    with pytest.raises(Forbidden):
        await server.accounts.issue_token("admin", "child", made_with=made_with)
