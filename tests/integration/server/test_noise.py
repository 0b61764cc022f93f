"""One tenant's noise: others get in, and get their turn, whatever one of them does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.deadline import DEADLINE_S
from tests.support.server.live_server import LiveServer, join, running
from tether.net.transport.crowd import MAX_SILENT
from tether.net.transport.streams import DialFailed
from tether.net.transport.ws_client import ClientStream, dial
from tether.protocol.messages.codec import MAX_CONTROL_MESSAGE
from tether.protocol.messages.reports import LifecycleRecord, Report, ReportAck
from tether.protocol.messages.tunnel import TunnelDenied
from tether.server import workspaces
from tether.server.connlog import log
from tether.server.connlog.ingest import Reporter
from tether.server.control import clients, handshake
from tether.server.control.slots import Holder
from tether.server.errors import Forbidden

pytestmark = pytest.mark.anyio


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[LiveServer]:
    async with running(tmp_path) as here:
        yield here


async def upgraded(live: LiveServer, token: str) -> ClientStream:
    """A WebSocket whose client says nothing."""
    return await dial(
        live.control_url, token=token, max_size=MAX_CONTROL_MESSAGE, timeout=DEADLINE_S
    )


async def refusal(live: LiveServer, token: str) -> tuple[int | None, str]:
    with pytest.raises(DialFailed) as refused:
        await upgraded(live, token)
    return refused.value.status, refused.value.cause


async def healthy(live: LiveServer) -> bool:
    reader, writer = await asyncio.open_connection("127.0.0.1", live.port)
    try:
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return b" 200 OK" in await asyncio.wait_for(reader.readline(), DEADLINE_S)
    finally:
        writer.close()


async def test_upgrades_without_a_hello_take_the_slots_of_their_own_token_only(
    live: LiveServer,
) -> None:
    _, noisy = await live.user("noisy")
    most = handshake.MAX_PENDING[Holder.TOKEN]
    silent = [await upgraded(live, noisy) for _ in range(most)]
    try:
        assert await refusal(live, noisy) == (503, "too_many_handshakes")
        await live.client()
    finally:
        for stream in silent:
            stream._ws.transport.abort()
    assert 'code="too_many_handshakes"} 1.0' in live.server.metrics.render().decode()


async def test_sockets_that_say_nothing_give_way_to_whoever_asks_for_something(
    live: LiveServer,
) -> None:
    silent = [await asyncio.open_connection("127.0.0.1", live.port) for _ in range(MAX_SILENT + 4)]
    try:
        assert await asyncio.wait_for(silent[0][0].read(1), DEADLINE_S) == b"", "the oldest"
        assert await healthy(live)
        await live.client()
    finally:
        for _, writer in silent:
            writer.transport.abort()
    assert 'code="silent_connection"}' in live.server.metrics.render().decode()


async def test_a_server_without_descriptors_to_spare_still_says_that_it_lives(
    live: LiveServer,
) -> None:
    token = await live.admin_token()
    live.server.crowd.most = 0
    assert await healthy(live)
    assert await refusal(live, token) == (503, "server_full")
    live.server.crowd.most = None
    await live.client(token)


def states(agent_instance: str, count: int) -> list[LifecycleRecord]:
    return [LifecycleRecord(instance_id=agent_instance, at=1.0, state="ready")] * count


async def test_others_write_between_the_parts_of_a_long_report(
    live: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, token = await live.workspace()
    agent = await live.agent(token)
    applied: list[int] = []
    stock = live.server.connections._apply

    async def counted(reporter: Reporter, part: Report) -> int:
        applied.append(len(part.items))
        return await stock(reporter, part)

    monkeypatch.setattr(live.server.connections, "_apply", counted)
    items = states(agent.hello.instance_id, 1000)
    agent.send(Report(journal_id=agent.hello.journal_id, first_seq=1, items=[*items]))
    ack = asyncio.ensure_future(agent.expect(ReportAck))
    seen = []
    while not ack.done():
        await live.server.store.probe(1.0)
        seen.append(len(applied))
    assert (await ack).seq == 1000
    assert set(applied) == {log.ITEMS_AT_ONCE, 1000 % log.ITEMS_AT_ONCE}
    assert len(set(seen)) > len(applied) // 2, "their turns alternate"


async def test_a_report_of_too_many_items_ends_its_link_and_names_the_agent(
    live: LiveServer,
) -> None:
    _, token = await live.workspace()
    agent = await live.agent(token)
    items = states(agent.hello.instance_id, log.MAX_ITEMS + 1)
    agent.send(Report(journal_id=agent.hello.journal_id, first_seq=1, items=[*items]))
    row = await live.closed(agent.connection_id)
    assert (row["disconnect_reason"], row["disconnect_initiator"]) == ("protocol_error", "agent")
    assert f"a report of {log.MAX_ITEMS + 1} items" in row["disconnect_detail"]


async def test_a_user_has_so_many_tunnels_and_no_more(
    live: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "MAX_TUNNELS_A_USER", 1)
    alice, user_token = await live.user("alice")
    _, hers = await live.workspace("hers", alice)
    _, mine = await live.workspace("mine")
    client, agent = await live.client(user_token), await live.agent(hers)
    await join(client, agent, "hers")
    denied = await client.request("hers")
    assert isinstance(denied, TunnelDenied)
    assert (denied.code, denied.message) == (
        "too_many_tunnels",
        "alice has 1 connections open: close some of them, or end some with `tether connections end"
        " ID`",
    )
    await join(await live.client(), await live.agent(mine), "mine")


async def test_a_token_has_so_many_links_and_no_more(
    live: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(handshake.MAX_LINKS, Holder.TOKEN, 1)
    token = await live.admin_token()
    first = await live.client(token)
    assert await refusal(live, token) == (503, "too_many_links")
    await live.client()
    await first.vanish()
    await live.closed(first.connection_id)
    async with asyncio.timeout(DEADLINE_S):
        while live.server.hub._handshakes._links.taken((Holder.USER, "admin")) > 1:
            await asyncio.sleep(0.01)
    await live.client(token)


async def test_a_member_has_so_many_workspaces_and_no_more(
    live: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspaces, "MAX_WORKSPACES_A_USER", 1)
    alice, _ = await live.user("alice")
    await live.workspace("first", alice)
    with pytest.raises(Forbidden, match="alice has 1 workspaces: delete one"):
        await live.workspace("second", alice)
    await live.server.workspaces.delete("first", alice)
    await live.workspace("second", alice)
    for name in ("one", "two"):
        await live.workspace(name)
