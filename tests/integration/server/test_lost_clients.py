"""A client that is killed says no goodbye, and its host does: which agents are told, and when."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.deadline import DEADLINE_S
from tests.support.server.live_server import LiveServer, Peer, join, running
from tether.protocol.messages.tunnel import ClientLost
from tether.server.control import client_runs

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_runs, "LOST_S", 0.3)


async def two(live: LiveServer) -> tuple[Peer, Peer, str]:
    """An agent, a client with a tunnel to it, and that tunnel."""
    _, token = await live.workspace()
    agent, client = await live.agent(token), await live.client()
    return agent, client, (await join(client, agent)).connection_id


async def told(agent: Peer) -> list[str]:
    """Which clients the agent is told of."""
    return (await agent.expect(ClientLost)).connection_ids


async def told_of_nobody(agent: Peer) -> bool:
    """Whether the agent is told of nobody in thrice the time that a client has."""
    try:
        await asyncio.wait_for(agent.inbox.get(), 0.9)
    except TimeoutError:
        return True
    return False


async def test_the_agent_of_a_client_that_vanished_at_once_is_told(tmp_path: Path) -> None:
    async with running(tmp_path) as live:
        agent, client, tunnel = await two(live)
        await client.vanish()
        assert (await agent.expect(ClientLost)).connection_ids == [tunnel]


async def test_it_is_told_of_a_run_that_dialled_anew_before_it_vanished(tmp_path: Path) -> None:
    async with running(tmp_path) as live:
        agent, client, tunnel = await two(live)
        await client.vanish()
        again = await live.client(instance_id=client.hello.instance_id)
        assert await told_of_nobody(agent)
        await again.vanish()
        assert await told(agent) == [tunnel]


async def test_it_is_not_told_of_a_client_that_said_goodbye(tmp_path: Path) -> None:
    async with running(tmp_path) as live:
        agent, client, _ = await two(live)
        client.driver.leave("client.closed")
        await client.over()
        assert await told_of_nobody(agent)


async def test_it_is_not_told_of_another_user_who_names_the_same_run(tmp_path: Path) -> None:
    async with running(tmp_path) as live:
        agent, client, _ = await two(live)
        _, token = await live.user("mallory")
        mallory = await live.client(token, instance_id=client.hello.instance_id)
        await mallory.vanish()
        assert await told_of_nobody(agent)


async def test_the_tunnels_of_a_run_are_remembered_up_to_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_runs, "MOST_TUNNELS", 2)
    async with running(tmp_path) as live:
        agent, client, _ = await two(live)
        later = [(await join(client, agent)).connection_id for _ in range(2)]
        await client.vanish()
        assert (
            await asyncio.wait_for(agent.expect(ClientLost), DEADLINE_S)
        ).connection_ids == later
