"""The client's own control link against a real server: who is told where, and who may know it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog
from structlog.typing import EventDict

from tests.support.deadline import DEADLINE_S
from tests.support.protocol.coordination import node
from tests.support.server.live_server import LiveServer, Peer, device_key, running
from tether.attribution.causes.codes import COORDINATION_REFUSED
from tether.attribution.vocabulary import ConnectType
from tether.client.control.events import AgentHere, ControlWord
from tether.client.control.link import ClientControl
from tether.net.clock import SystemClock
from tether.net.link.control_log import ControlLog
from tether.net.transport.streams import MessageStream
from tether.net.transport.ws_client import dial
from tether.protocol.messages.codec import MAX_CONTROL_MESSAGE
from tether.protocol.messages.coordination import (
    Coordinate,
    CoordinateOpen,
    CoordinateOpened,
    PeerUpdate,
    PeerUpdates,
    PeerWord,
)
from tether.protocol.messages.tunnel import TunnelOffer

pytestmark = pytest.mark.anyio


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[LiveServer]:
    async with running(tmp_path) as server:
        yield server


class Client:
    """A client program, as far as its control link."""

    def __init__(self, live: LiveServer, token: str) -> None:
        self.live, self.token = live, token
        self.words: asyncio.Queue[ControlWord] = asyncio.Queue()
        self.streams: list[MessageStream] = []
        self.control = ClientControl(
            self._dial,
            SystemClock(),
            on_word=self.words.put_nowait,
            log=ControlLog(ConnectType.CLIENT_TO_SERVER),
        )
        self.connection_id = ""

    async def _dial(self) -> MessageStream:
        self.streams.append(
            await dial(self.live.control_url, token=self.token, max_size=MAX_CONTROL_MESSAGE)
        )
        return self.streams[-1]

    async def told_of_agent(self) -> AgentHere:
        while not isinstance(
            word := await asyncio.wait_for(self.words.get(), DEADLINE_S), AgentHere
        ):
            pass
        return word


@contextlib.asynccontextmanager
async def connected(live: LiveServer, token: str) -> AsyncIterator[Client]:
    client = Client(live, token)
    try:
        await client.control.connect()
        client.connection_id = (await client.control.greeted()).connection_id
        yield client
    finally:
        await client.control.leave()


async def agent_of(live: LiveServer, *endpoints: str) -> tuple[Peer, str]:
    """An agent in the coordinator, and its workspace."""
    workspace_id, token = await live.workspace()
    agent = await live.agent(token)
    agent.send(CoordinateOpen())
    await agent.expect(CoordinateOpened)
    agent.send(Coordinate(update_self=node(workspace_id, *endpoints)))
    return agent, workspace_id


async def heard(agent: Peer) -> PeerUpdate:
    (update,) = (await agent.expect(PeerUpdates)).updates
    return update


async def test_a_client_is_told_where_its_agent_is_with_no_new_grant(live: LiveServer) -> None:
    agent, workspace_id = await agent_of(live, "192.0.2.1:7000")
    async with connected(live, await live.admin_token()) as client:
        grant = await client.control.request_tunnel("dev", device_key())
        await agent.expect(TunnelOffer)
        client.control.coordinate(workspace_id, "fra")
        assert await client.told_of_agent() == AgentHere(tuple(grant.endpoints))
        assert (await heard(agent)).kind == PeerWord.NODE
        agent.send(Coordinate(update_self=node(workspace_id, "192.0.2.2:7001")))
        moved = AgentHere(("192.0.2.2:7001", "127.0.0.1:7001"))
        assert await client.told_of_agent() == moved


async def test_an_agent_is_told_that_its_client_has_left_and_why(live: LiveServer) -> None:
    agent, workspace_id = await agent_of(live, "192.0.2.1:7000")
    async with connected(live, await live.admin_token()) as client:
        client.control.coordinate(workspace_id, "fra")
        here = await heard(agent)
        assert here.node is not None
        assert (here.kind, here.node.home_region) == (PeerWord.NODE, "fra")
    left = await heard(agent)
    assert (left.id, left.kind, left.cause) == (here.id, PeerWord.DISCONNECTED, "client.closed")
    row = await live.closed(client.connection_id)
    assert (row["disconnect_cause"], row["disconnect_expected"]) == ("client.closed", True)


async def test_a_client_whose_link_is_cut_comes_back_under_its_id(live: LiveServer) -> None:
    agent, workspace_id = await agent_of(live, "192.0.2.1:7000")
    async with connected(live, await live.admin_token()) as client:
        await client.control.request_tunnel("dev", device_key())
        await agent.expect(TunnelOffer)
        client.control.coordinate(workspace_id, "fra")
        first = await heard(agent)
        await client.told_of_agent()
        await client.control.round_trip()  # its token has come before the answer to this
        await client.streams[0].close(1011, "cut")
        lost, again = await heard(agent), await heard(agent)
        assert (lost.id, lost.kind) == (first.id, PeerWord.LOST)
        assert (again.id, again.kind) == (first.id, PeerWord.NODE)
        assert await client.told_of_agent() == AgentHere(("192.0.2.1:7000", "127.0.0.1:7000"))


async def test_a_client_that_may_not_know_is_refused_on_record_and_told_nothing(
    live: LiveServer,
) -> None:
    agent, workspace_id = await agent_of(live, "192.0.2.1:7000")
    _, token = await live.user("mallory")
    with structlog.testing.capture_logs() as lines:
        async with connected(live, token) as client, asyncio.timeout(DEADLINE_S):
            client.control.coordinate(workspace_id, "")
            while not _ends(lines):
                await client.control.round_trip()  # the link lives meanwhile, and after
            await client.control.round_trip()
    assert _ends(lines)[0] == (COORDINATION_REFUSED, "server", False)
    told = [client.words.get_nowait() for _ in range(client.words.qsize())]
    assert not any(isinstance(word, AgentHere) for word in told)
    row = await live.closed(client.connection_id)
    assert row["disconnect_cause"] == "client.closed"
    noted = [one["values"] for one in row["evidence"] if one["kind"] == "logical_stream_ended"]
    assert {(one["stream"], one["cause"]) for one in noted} == {
        ("coordination", COORDINATION_REFUSED)
    }
    assert agent.inbox.empty(), "nor is the agent told of a client that may not come"


def _ends(lines: list[EventDict]) -> list[tuple[str, str, bool]]:
    """What the client says of the ends of its streams."""
    names = ("disconnect_cause", "disconnect_initiator", "disconnect_expected")
    return [
        tuple(line[name] for name in names)
        for line in lines
        if line["event"] == "disconnected from coordination RPC"
    ]
