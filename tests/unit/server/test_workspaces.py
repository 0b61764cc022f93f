"""Workspaces: who may, in which order it happens, and what is written down about it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.support.clock import EPOCH
from tests.support.server.parts import MemoryHub, Parts, parts
from tether.attribution.causes.catalogue import WORKSPACE_STOPS
from tether.server.auth.accounts import REPLACED_S
from tether.server.db.tables.accounts import Role
from tether.server.db.tables.workspaces import WorkspaceState, intents, workspaces
from tether.server.errors import Conflict, Invalid, NotFound
from tether.server.identity import Identity, TokenRejected
from tether.server.workspaces import AgentStatus, StopReason, WorkspaceInfo, Workspaces

pytestmark = pytest.mark.anyio

ADMIN = Identity(kind="user", user="admin", role="admin")
ALICE = Identity(kind="user", user="alice", role="member")
BOB = Identity(kind="user", user="bob", role="member")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Parts]:
    async with parts(tmp_path) as made:
        await made.accounts.bootstrap(tmp_path)
        for user in (ALICE, BOB):
            await made.accounts.create_user(user.user, Role.MEMBER, ADMIN)
        yield made


async def _intents(server: Parts) -> list[tuple[object, ...]]:
    async def fetch(connection: AsyncConnection) -> list[tuple[object, ...]]:
        c = intents.c
        wanted = select(c.kind, c.cause, c.actor, c.requested_by).where(c.workspace_id.is_not(None))
        return [tuple(row) for row in (await connection.execute(wanted.order_by(c.id))).all()]

    return await server.store.read(fetch)


async def test_a_new_workspace_runs_and_waits_for_its_agent(server: Parts) -> None:
    made = await server.workspaces.create("dev", ALICE)
    assert await server.workspaces.get("dev", ALICE) == WorkspaceInfo(
        workspace_id=made.workspace_id,
        name="dev",
        owner="alice",
        state=WorkspaceState.RUNNING,
        created_at=EPOCH,
        host_key=None,
        agent_status=AgentStatus.NEVER_CONNECTED,
        agent_version=None,
        agent_hostname=None,
        agent_last_seen_at=None,
    )


async def test_an_agent_is_connected_or_was_or_never_was(server: Parts) -> None:
    made = await server.workspaces.create("dev", ALICE)
    server.hub.connected[made.workspace_id] = EPOCH + 4
    server.clock.mono = 9.0
    now = await server.workspaces.get("dev", ALICE)
    assert (now.agent_status, now.agent_last_seen_at) == (AgentStatus.CONNECTED, EPOCH + 4)
    server.hub.connected.clear()
    seen = {"agent_first_seen_at": 1.0, "agent_last_seen_at": 2.0}
    await server.store.write(lambda tx: tx.execute(update(workspaces).values(seen)))
    later = await server.workspaces.get("dev", ALICE)
    assert (later.agent_status, later.agent_last_seen_at) == (AgentStatus.DISCONNECTED, 2.0)


async def test_what_is_anothers_does_not_exist(server: Parts) -> None:
    await server.workspaces.create("dev", ALICE)
    assert await server.workspaces.list(BOB) == []
    for attempt in (
        server.workspaces.get("dev", BOB),
        server.workspaces.stop("dev", StopReason.USER, BOB),
        server.workspaces.start("dev", BOB),
        server.workspaces.delete("dev", BOB),
        server.workspaces.rotate_token("dev", BOB),
    ):
        with pytest.raises(NotFound, match="no workspace 'dev' of yours"):
            await attempt
    assert server.hub.told == []
    assert [info.name for info in await server.workspaces.list(ADMIN)] == ["dev"]


@pytest.mark.parametrize(
    "name", ["", "Dev", "a_b", "-a", "a-", "a" * 33, "a.b", "a\n", "é", "../x", "a b"]
)
async def test_what_is_no_name_is_refused(server: Parts, name: str) -> None:
    with pytest.raises(Invalid):
        await server.workspaces.create(name, ALICE)


@pytest.mark.parametrize("name", ["a", "0", "a-b", "a" * 32, "9-9"])
async def test_what_is_a_name_is_taken(server: Parts, name: str) -> None:
    assert (await server.workspaces.create(name, ALICE)).name == name


async def test_a_name_is_free_again_after_its_workspace_was_deleted(server: Parts) -> None:
    first = await server.workspaces.create("dev", ALICE)
    with pytest.raises(Conflict, match="taken"):
        await server.workspaces.create("dev", BOB)
    await server.workspaces.delete("dev", ALICE)
    second = await server.workspaces.create("dev", BOB)
    assert first.workspace_id != second.workspace_id
    with pytest.raises(NotFound):
        await server.workspaces.get("dev", ALICE)


@pytest.mark.parametrize(
    ("reason", "by", "kind", "actor", "detail"),
    [
        (StopReason.USER, ALICE, "stop", "user:alice", ""),
        (StopReason.USER, ADMIN, "stop", "admin:admin", ""),
        (StopReason.AUTOSTOP, ADMIN, "stop", "policy:autostop", "asked for by admin:admin"),
        (StopReason.AUTOSTOP, ALICE, "stop", "user:alice", ""),
        (StopReason.EVICTED, ALICE, "evict", "user:alice", ""),
        (StopReason.DELETED, ALICE, "stop", "user:alice", ""),
        (StopReason.EVICTED, ADMIN, "evict", "platform", "asked for by admin:admin"),
    ],
)
async def test_a_stop_names_its_cause_and_who_is_behind_it(
    server: Parts, reason: StopReason, by: Identity, kind: str, actor: str, detail: str
) -> None:
    made = await server.workspaces.create("dev", ALICE)
    server.hub.connected[made.workspace_id] = EPOCH
    stopped = await server.workspaces.stop("dev", reason, by)
    cause = WORKSPACE_STOPS[reason]
    assert server.hub.told == [("stop", made.workspace_id, cause, actor, detail)]
    asked = "admin:admin" if by is ADMIN else "user:alice"
    assert (await _intents(server))[-1] == (kind, cause, actor, asked)
    assert (stopped.state, stopped.agent_last_seen_at) == (WorkspaceState.STOPPED, None)


def test_every_word_of_the_catalogue_is_a_reason_to_stop() -> None:
    assert {str(reason) for reason in StopReason} == set(WORKSPACE_STOPS)


async def test_a_started_workspace_runs_again(server: Parts) -> None:
    made = await server.workspaces.create("dev", ALICE)
    await server.workspaces.stop("dev", StopReason.USER, ALICE)
    started = await server.workspaces.start("dev", ALICE)
    assert started.state is WorkspaceState.RUNNING
    assert server.hub.told[-1] == ("start", made.workspace_id)
    assert (await _intents(server))[-1] == ("start", "", "user:alice", "user:alice")


async def test_a_deletion_tells_the_agent_why(server: Parts) -> None:
    made = await server.workspaces.create("dev", ALICE)
    await server.workspaces.delete("dev", ADMIN)
    assert server.hub.told == [("delete", made.workspace_id, "workspace.deleted", "admin:admin")]
    assert (await _intents(server))[-1] == (
        "delete",
        "workspace.deleted",
        "admin:admin",
        "admin:admin",
    )


async def test_a_replaced_token_is_good_for_a_while_so_that_the_new_one_can_get_there(
    server: Parts,
) -> None:
    made = await server.workspaces.create("dev", ALICE)
    old = await server.accounts.authenticate(made.agent_token)
    assert isinstance(old, Identity)
    fresh = await server.workspaces.rotate_token("dev", ALICE)
    assert server.hub.told == [("replace_token", old.token_id, "user:alice")]
    now = await server.accounts.authenticate(fresh)
    assert isinstance(now, Identity)
    assert replace(now, token_id=old.token_id) == old
    until = server.clock.now().wall + REPLACED_S
    assert await server.accounts.authenticate(made.agent_token) == replace(old, expires_at=until)
    server.clock.mono += REPLACED_S
    refused = await server.accounts.authenticate(made.agent_token)
    assert isinstance(refused, TokenRejected)
    assert refused.code == "token_expired"


async def test_a_leaked_token_is_refused_at_once_and_its_link_ends(server: Parts) -> None:
    made = await server.workspaces.create("dev", ALICE)
    old = await server.accounts.authenticate(made.agent_token)
    assert isinstance(old, Identity)
    await server.workspaces.rotate_token("dev", ADMIN, at_once=True)
    assert server.hub.told == [("revoke_tokens", old.token_id, "admin:admin")]
    refused = await server.accounts.authenticate(made.agent_token)
    assert isinstance(refused, TokenRejected)
    assert refused.code == "token_revoked"


class _SlowHub(MemoryHub):
    """A hub whose agent takes its time to leave."""

    def __init__(self) -> None:
        super().__init__()
        self.leaving, self.left = asyncio.Event(), asyncio.Event()
        self.state_seen: WorkspaceState | None = None
        self.server: Parts | None = None

    async def stop_workspace(
        self, workspace_id: str, cause: str, actor: str, detail: str = ""
    ) -> None:
        assert self.server is not None
        self.state_seen = (await self.server.workspaces.get("dev", ADMIN)).state
        self.leaving.set()
        await self.left.wait()
        await super().stop_workspace(workspace_id, cause, actor, detail)


async def test_a_start_waits_for_the_stop_before_it(server: Parts) -> None:
    hub = _SlowHub()
    hub.server = server
    busy = Workspaces(server.store, server.accounts, hub, server.clock)
    await busy.create("dev", ALICE)
    await busy.create("other", ALICE)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(busy.stop("dev", StopReason.USER, ALICE))
        await hub.leaving.wait()
        starting = tasks.create_task(busy.start("dev", ALICE))
        await busy.start("other", ALICE)  # another workspace does not wait
        assert not starting.done()
        hub.left.set()
    assert [told[0] for told in hub.told] == ["start", "stop", "start"]
    assert (await busy.get("dev", ALICE)).state is WorkspaceState.RUNNING
    assert hub.state_seen is WorkspaceState.STOPPED  # committed before the hub was told
