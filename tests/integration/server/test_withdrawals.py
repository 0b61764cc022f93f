"""Access that was withdrawn ends what lives on it, whoever could not hear of it when it happened."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from tests.support.deadline import DEADLINE_S
from tests.support.server.live_server import AheadClock, LiveServer, Peer, join, running
from tests.support.server.log_reader import ADMIN
from tether.net.tasks import Tasks
from tether.protocol.messages.control import EndConnections
from tether.protocol.messages.reports import Opened
from tether.protocol.messages.tunnel import TunnelGrant, TunnelOffer
from tether.server.connlog.records import find
from tether.server.db.tables.accounts import users
from tether.server.db.tables.web import SignInMethod
from tether.server.identity import Identity

pytestmark = pytest.mark.anyio


@pytest.fixture
def clock() -> AheadClock:
    return AheadClock()


@pytest.fixture
async def live(tmp_path: Path, clock: AheadClock) -> AsyncIterator[LiveServer]:
    async with running(tmp_path, clock) as here:
        yield here


async def hers(live: LiveServer) -> tuple[Identity, Peer, Peer]:
    """Alice, the agent of her workspace, and a client of hers."""
    alice, user_token = await live.user("alice")
    _, agent_token = await live.workspace("hers", alice)
    live.agent_token = agent_token  # type: ignore[attr-defined]
    return alice, await live.agent(agent_token), await live.client(user_token)


async def back(live: LiveServer, agent: Peer, *serving: str) -> Peer:
    """The same run of an agent, which serves these, dials anew."""
    same = {"journal_id": agent.hello.journal_id, "instance_id": agent.hello.instance_id}
    ids = list(serving)
    return await live.agent(
        live.agent_token,  # type: ignore[attr-defined]
        open_connections=ids,
        serving=ids,
        **same,
    )


def truth(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["disconnect_cause"], row["disconnect_reason"], row["disconnect_actor"]


async def test_an_agent_that_was_cut_off_is_told_of_the_withdrawal_when_it_is_back(
    live: LiveServer,
) -> None:
    _, agent, client = await hers(live)
    tunnel = await join(client, agent, "hers")
    await agent.vanish()
    await live.closed(agent.connection_id)
    await live.server.accounts.revoke_user("alice", ADMIN)
    await live.server.hub.revoke_user("alice", "admin:admin")
    again = await back(live, agent, tunnel.connection_id)
    assert await again.expect(EndConnections) == EndConnections(
        connection_ids=[tunnel.connection_id], cause="auth.user_revoked", actor="admin:admin"
    )
    row = await live.row(tunnel.connection_id)
    assert truth(row) == ("auth.user_revoked", "access_revoked", "admin:admin"), "not reopened"


async def test_a_grant_that_is_used_after_the_withdrawal_opens_nothing_that_lasts(
    live: LiveServer,
) -> None:
    _, agent, client = await hers(live)
    grant = await client.request("hers")
    assert isinstance(grant, TunnelGrant)
    await agent.expect(TunnelOffer)
    await live.server.accounts.revoke_user("alice", ADMIN)
    await live.server.hub.revoke_user("alice", "admin:admin")
    order = EndConnections(
        connection_ids=[grant.connection_id], cause="auth.user_revoked", actor="admin:admin"
    )
    assert await agent.expect(EndConnections) == order, "a pending one may be joined already"
    # the agent had not heard of this tunnel yet, and takes it up all the same
    await agent.report(Opened(connection_id=grant.connection_id, at=0.0))
    assert await agent.expect(EndConnections) == order


async def test_a_pending_tunnel_that_was_joined_while_the_agent_was_cut_off_ends_when_it_is_back(
    live: LiveServer,
) -> None:
    _, agent, client = await hers(live)
    grant = await client.request("hers")
    assert isinstance(grant, TunnelGrant)
    await agent.expect(TunnelOffer)
    await agent.vanish()
    await live.closed(agent.connection_id)
    await live.server.accounts.revoke_user("alice", ADMIN)
    await live.server.hub.revoke_user("alice", "admin:admin")
    again = await back(live, agent, grant.connection_id)
    told = await again.expect(EndConnections)
    assert (told.connection_ids, told.cause) == ([grant.connection_id], "auth.user_revoked")


async def test_a_token_that_runs_out_takes_its_tunnels_along_when_its_client_is_away(
    live: LiveServer, clock: AheadClock
) -> None:
    _alice, agent, _ = await hers(live)
    short = await live.server.accounts.issue_token("alice", "short", expires_in_s=600.0)
    client = await live.client(short.token)
    tunnel = await join(client, agent, "hers")
    await client.vanish()
    await live.closed(client.connection_id)
    clock.ahead = 601.0
    told = await agent.expect(EndConnections)
    assert (told.connection_ids, told.cause) == ([tunnel.connection_id], "auth.token_expired")


async def test_what_a_withdrawal_could_not_end_is_ended_later(live: LiveServer) -> None:
    """The server is stopped between the withdrawal and the order, say."""
    _, agent, client = await hers(live)
    tunnel = await join(client, agent, "hers")
    gone = (
        update(users).where(users.c.name == "alice").values(revoked_at=1.0, revoked_by="admin:root")
    )
    await live.server.store.write(lambda tx: tx.execute(gone))
    told = await agent.expect(EndConnections)
    assert told == EndConnections(
        connection_ids=[tunnel.connection_id], cause="auth.user_revoked", actor="admin:root"
    )


async def test_a_browser_falls_with_the_token_that_it_was_signed_in_with(live: LiveServer) -> None:
    alice, agent, _ = await hers(live)
    laptop = await live.server.accounts.issue_token("alice", "laptop")
    who = await live.server.accounts.authenticate(laptop.token)
    assert isinstance(who, Identity)
    session, info = await live.server.accounts.sessions.begin(
        who,
        SignInMethod.TOKEN,
        client_ip="",
        user_agent="",
    )
    browser = await live.client(session.token)
    tunnel = await join(browser, agent, "hers")
    fallen = await live.server.accounts.revoke_token(laptop.token_id, alice)
    assert fallen == {laptop.token_id, info.session_id}
    revoking = Tasks("test").spawn(live.server.hub.revoke_tokens(fallen, "user:alice"), "revoke")
    told = await agent.expect(EndConnections)
    assert (told.connection_ids, told.cause, told.actor) == (
        [tunnel.connection_id],
        "auth.token_revoked",
        "user:alice",
    )
    goodbye = await browser.over()
    assert goodbye is not None
    assert goodbye.cause == "auth.token_revoked"
    await agent.vanish()
    await asyncio.wait_for(revoking, DEADLINE_S)


async def test_somebody_ends_one_connection_and_no_other(live: LiveServer) -> None:
    _, agent, client = await hers(live)
    tunnel, other = await join(client, agent, "hers"), await join(client, agent, "hers")
    row = await live.server.connections.find_tunnel(tunnel.connection_id)
    assert row is not None
    ending = Tasks("test").spawn(
        live.server.hub.end_connection(row, "admin:bob", "the machine is needed"), "end"
    )
    assert await agent.expect(EndConnections) == EndConnections(
        connection_ids=[tunnel.connection_id],
        cause="auth.connection_ended",
        actor="admin:bob",
        detail="the machine is needed",
    )
    await agent.vanish()
    await asyncio.wait_for(ending, 2 * DEADLINE_S)
    row_shown = await live.closed(tunnel.connection_id)
    assert truth(row_shown) == ("auth.connection_ended", "access_revoked", "admin:bob")
    assert (await live.row(other.connection_id))["status"] == "ongoing"


async def test_a_control_link_that_somebody_ends_names_them_and_may_come_again(
    live: LiveServer,
) -> None:
    _, _agent, client = await hers(live)
    (row,) = [r for r in await live.rows() if r["id"] == client.connection_id]
    assert row["status"] == "ongoing"
    stored = await live.server.store.read(lambda tx: find(tx, client.connection_id))
    assert stored is not None
    await live.server.hub.end_connection(stored, "admin:bob", "")
    goodbye = await client.over()
    assert goodbye is not None
    assert (goodbye.cause, goodbye.actor, goodbye.retry_after_s) == (
        "auth.connection_ended",
        "admin:bob",
        0.0,
    )
    shown = await live.closed(client.connection_id)
    assert truth(shown) == ("auth.connection_ended", "access_revoked", "admin:bob")
