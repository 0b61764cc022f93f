"""The coordinator over real links: who is told what, and what bad input does to whom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support.deadline import DEADLINE_S
from tests.support.protocol.coordination import node
from tests.support.server.live_server import LiveServer, Peer, running
from tests.support.server.log_reader import ADMIN
from tether.attribution.causes.codes import COORDINATION_REFUSED
from tether.protocol.derp.latency import RegionLatency
from tether.protocol.messages.base import Message
from tether.protocol.messages.coordination import (
    MAX_ENDPOINTS,
    Coordinate,
    CoordinateClosed,
    CoordinateError,
    CoordinateOpen,
    CoordinateOpened,
    Departure,
    Node,
    PeerUpdate,
    PeerUpdates,
    PeerWord,
    ResumeTokenGrant,
    ResumeTokenRequest,
)
from tether.protocol.messages.tunnel import TunnelGrant
from tether.server.control.coordination import BURST

pytestmark = pytest.mark.anyio


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[LiveServer]:
    async with running(tmp_path) as server:
        yield server


async def opened(peer: Peer, token: str = "") -> str:
    """Open the stream; who the peer is in it."""
    peer.send(CoordinateOpen(resume_token=token))
    return (await peer.expect(CoordinateOpened)).peer_id


async def heard(peer: Peer) -> list[PeerUpdate]:
    return (await peer.expect(PeerUpdates)).updates


async def answered(peer: Peer) -> list[Message]:
    """Everything that the server has said until now: it answers in order."""
    peer.send(ResumeTokenRequest(request_id=99))
    found: list[Message] = []
    while not isinstance(
        message := await asyncio.wait_for(peer.inbox.get(), DEADLINE_S), ResumeTokenGrant
    ):
        found.append(message)
    return found


class Pair:
    """An agent and a client of the administrator's, both in the coordinator."""

    def __init__(self, live: LiveServer) -> None:
        self.live = live

    async def join(self) -> Pair:
        self.workspace_id, self.agent_token = await self.live.workspace()
        self.agent = await self.live.agent(self.agent_token)
        self.client = await self.live.client()
        assert await opened(self.agent) == self.workspace_id
        self.client_id = await opened(self.client)
        return self

    def node(self, *endpoints: str) -> Node:
        return node(self.workspace_id, *endpoints)

    async def meet(self) -> Pair:
        self.agent.send(Coordinate(update_self=self.node("192.0.2.1:7000")))
        self.client.send(Coordinate(update_self=node(self.client_id), add_tunnel=self.workspace_id))
        await heard(self.client)
        await heard(self.agent)
        return self


async def still_good(pair: Pair, *endpoints: str) -> None:
    """Agent and client are undisturbed."""
    pair.agent.send(Coordinate(update_self=pair.node(*endpoints)))
    ((last, *_),) = [one.node.endpoints for one in await heard(pair.client) if one.node]
    assert last == endpoints[0]


async def test_agent_and_client_are_told_of_each_other(live: LiveServer) -> None:
    pair = await Pair(live).join()
    pair.agent.send(Coordinate(update_self=pair.node("192.0.2.1:7000")))
    pair.client.send(Coordinate(update_self=node(pair.client_id), add_tunnel=pair.workspace_id))
    (update,) = await heard(pair.client)
    told_and_seen = pair.node("192.0.2.1:7000", "127.0.0.1:7000")
    assert (update.kind, update.node) == (PeerWord.NODE, told_and_seen)
    (back,) = await heard(pair.agent)
    assert (back.kind, back.id) == (PeerWord.NODE, pair.client_id)
    pair.agent.send(Coordinate(ready_for_handshake=[pair.client_id]))
    assert [one.kind for one in await heard(pair.client)] == [PeerWord.READY_FOR_HANDSHAKE]


async def test_an_agents_endpoints_come_with_each_grant(live: LiveServer) -> None:
    pair = await (await Pair(live).join()).meet()
    grant = await pair.client.request()
    assert isinstance(grant, TunnelGrant)
    assert grant.endpoints == ["192.0.2.1:7000", "127.0.0.1:7000"], "told, then seen"


async def test_a_tunnel_goes_where_both_ways_together_are_shortest(live: LiveServer) -> None:
    for number, region in enumerate(("ams", "fra")):
        live.server.regions.register(number, region, f"ws://{region}/derp", draining=False)
    pair = await (await Pair(live).join()).meet()
    its = {"ams": 0.01, "fra": 0.03, "embedded": 0.09}
    more = {**its, "far": 1e308, "nowhere": -1.0}  # numbers, and no latency_s
    where = msgspec.structs.replace(pair.node(), home_region="ams", region_latency=more)
    pair.agent.send(Coordinate(update_self=where))
    await heard(pair.client)
    asked: list[dict[str, Any]] = [
        {},  # the agent's home
        {"region": "fra"},  # a wish
        {"region": "nyc", "region_latency": {"ams": 0.09, "fra": 0.01}},
        {"region": "fra", "region_latency": {"ams": 0.01, "fra": 0.02}},
        {"region": "fra", "region_latency": {"nyc": 0.01}},  # the two have none in common
    ]
    met = []
    for number, request in enumerate(asked, 1):
        grant = await pair.client.request(request_id=number, **request)
        assert isinstance(grant, TunnelGrant)
        met.append(grant.region)
    assert met == ["ams", "fra", "fra", "ams", "fra"]
    shown = await live.server.workspaces.get("dev", ADMIN)
    assert shown.agent_latency == RegionLatency("ams", its)


async def test_an_agent_that_tells_no_endpoint_has_none(live: LiveServer) -> None:
    pair = await Pair(live).join()
    pair.agent.send(Coordinate(update_self=pair.node()))
    await answered(pair.agent)
    grant = await pair.client.request()
    assert isinstance(grant, TunnelGrant)
    assert grant.endpoints == []


async def test_a_client_is_told_the_same_endpoints_with_an_update_as_with_a_grant(
    live: LiveServer,
) -> None:
    pair = await (await Pair(live).join()).meet()
    pair.agent.send(Coordinate(update_self=pair.node("192.0.2.2:7001")))
    (update,) = await heard(pair.client)
    grant = await pair.client.request()
    assert isinstance(grant, TunnelGrant) and update.node is not None
    assert update.node.endpoints == grant.endpoints == ["192.0.2.2:7001", "127.0.0.1:7001"]


async def test_a_graceful_end_is_disconnected_with_its_cause_and_acknowledged(
    live: LiveServer,
) -> None:
    pair = await (await Pair(live).join()).meet()
    leaving = Departure(cause="agent.shutdown", actor="signal:15")
    pair.agent.send(Coordinate(disconnect=leaving))
    closed = await pair.agent.expect(CoordinateClosed)
    assert (closed.error, closed.cause) == ("", "agent.shutdown")
    (update,) = await heard(pair.client)
    assert (update.kind, update.cause, update.actor) == (
        PeerWord.DISCONNECTED,
        "agent.shutdown",
        "signal:15",
    )


async def test_an_agent_that_vanishes_is_lost_with_the_cause_of_its_link(live: LiveServer) -> None:
    pair = await (await Pair(live).join()).meet()
    await pair.agent.vanish()
    (update,) = await heard(pair.client)
    assert (update.kind, update.cause.partition(".")[0]) == (PeerWord.LOST, "agent")
    again = await live.agent(pair.agent_token)
    assert await opened(again) == pair.workspace_id
    assert [one.kind for one in await heard(again)] == [PeerWord.NODE], "pushed at once"


async def test_a_second_agent_takes_the_id_and_the_older_one_cannot_take_it_back(
    live: LiveServer,
) -> None:
    pair = await (await Pair(live).join()).meet()
    second = await live.agent(pair.agent_token)
    assert await opened(second) == pair.workspace_id
    pair.agent.send(CoordinateOpen())
    await pair.agent.over()
    second.send(Coordinate(update_self=pair.node("192.0.2.2:7000")))
    kinds = list[str | None]()
    while not kinds or kinds[-1] != "192.0.2.2:7000":
        kinds += [one.node.endpoints[0] if one.node else None for one in await heard(pair.client)]
    row = await live.closed(pair.agent.connection_id)
    assert row["disconnect_cause"] == "agent.superseded"


async def test_a_client_that_comes_back_with_its_token_keeps_its_id_and_no_other(
    live: LiveServer,
) -> None:
    client = await live.client()
    peer_id = await opened(client)
    client.send(ResumeTokenRequest(request_id=1))
    token = (await client.expect(ResumeTokenGrant)).token
    await client.vanish()
    assert await opened(await live.client(), token) == peer_id
    _, alices = await live.user("alice")
    assert await opened(await live.client(alices), token) != peer_id


async def test_two_streams_with_one_token_are_one_peer_and_the_older_is_told(
    live: LiveServer,
) -> None:
    client = await live.client()
    peer_id = await opened(client)
    client.send(ResumeTokenRequest(request_id=1))
    token = (await client.expect(ResumeTokenGrant)).token
    assert await opened(await live.client(), token) == peer_id
    closed = await client.expect(CoordinateClosed)
    assert (closed.cause, closed.error) == (
        "coordination.overwritten",
        "peer ID overwritten by new connection",
    )
    assert await opened(client) != peer_id, "the link lives, and a new id is to be had"


# -- bad input ---------------------------------------------------------------------------------


async def test_a_tunnel_that_a_client_may_not_open_is_refused_in_band_and_on_record(
    live: LiveServer,
) -> None:
    pair = await (await Pair(live).join()).meet()
    _, token = await live.user("mallory")
    mallory = await live.client(token)
    await opened(mallory)
    mallory.send(Coordinate(add_tunnel=pair.workspace_id))
    closed = await mallory.expect(CoordinateClosed)
    assert (closed.cause, closed.error) == (
        COORDINATION_REFUSED,
        "workspace agent not found or you do not have permission",
    )
    await still_good(pair, "192.0.2.9:7000")
    mallory.driver.leave("client.closed")
    await mallory.over()
    row = await live.closed(mallory.connection_id)
    assert row["disconnect_cause"] == "client.closed", "the link's end is its own"
    noted = [one["values"] for one in row["evidence"] if one["kind"] == "logical_stream_ended"]
    assert [(one["stream"], one["cause"]) for one in noted] == [
        ("coordination", COORDINATION_REFUSED)
    ]


def too_many_endpoints(pair: Pair) -> Coordinate:
    return Coordinate(update_self=pair.node(*[f"192.0.2.1:{n}" for n in range(10_000)]))


def anothers_id(pair: Pair) -> Coordinate:
    return Coordinate(update_self=node(pair.client_id))


def a_tunnel(pair: Pair) -> Coordinate:
    return Coordinate(add_tunnel=pair.client_id)


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        (too_many_endpoints, "a node with 10000 endpoints"),
        (anothers_id, "a node that claims the id of another peer"),
        (a_tunnel, "agents cannot open tunnels"),
    ],
)
async def test_what_no_agent_may_ask_is_a_protocol_error_of_that_agent_alone(
    live: LiveServer, bad: Any, what: str
) -> None:
    pair = await (await Pair(live).join()).meet()
    other = await live.workspace("other")
    bystander = await live.agent(other[1])
    await opened(bystander)
    pair.agent.send(bad(pair))
    goodbye = await pair.agent.over()
    assert goodbye is not None
    assert (goodbye.cause, goodbye.detail) == ("agent.protocol_error", what)
    row = await live.closed(pair.agent.connection_id)
    assert (row["disconnect_cause"], row["disconnect_detail"]) == ("agent.protocol_error", what)
    (update,) = await heard(pair.client)
    assert (update.kind, update.cause) == (PeerWord.LOST, "agent.protocol_error")
    bystander.send(Coordinate(update_self=node(other[0], "192.0.2.7:7000")))
    assert await answered(bystander) == []
    assert live.server.coordination.endpoints(other[0], "") == ["192.0.2.7:7000"]


async def test_a_flood_of_updates_is_ended_as_what_it_is_and_others_do_not_notice(
    live: LiveServer,
) -> None:
    pair = await (await Pair(live).join()).meet()
    _, token = await live.workspace("loud")
    flood = await live.agent(token)
    workspace_id = await opened(flood)
    for number in range(3 * BURST):
        flood.send(Coordinate(update_self=node(workspace_id, f"192.0.2.1:{number}")))
    goodbye = await flood.over()
    assert goodbye is not None
    assert goodbye.cause == "agent.protocol_error"
    assert "floods the coordinator" in goodbye.detail
    row = await live.closed(flood.connection_id)
    assert row["disconnect_cause"] == "agent.protocol_error"
    await still_good(pair, "192.0.2.8:7000")


async def test_opening_twice_is_a_protocol_error(live: LiveServer) -> None:
    client = await live.client()
    await opened(client)
    client.send(CoordinateOpen())
    goodbye = await client.over()
    assert goodbye is not None
    assert goodbye.cause == "client.protocol_error"


async def test_ready_for_a_stranger_is_an_error_in_band(live: LiveServer) -> None:
    pair = await Pair(live).join()
    pair.agent.send(Coordinate(ready_for_handshake=["stranger"]))
    error = await pair.agent.expect(CoordinateError)
    assert error.error.startswith("ready for handshake error: ")
    assert await answered(pair.agent) == []


async def test_requests_without_a_stream_are_of_no_effect(live: LiveServer) -> None:
    client = await live.client()
    client.send(Coordinate(add_tunnel="x"))
    client.send(ResumeTokenRequest(request_id=1))
    assert await opened(client) != ""


async def test_the_most_endpoints_that_are_allowed_are_taken(live: LiveServer) -> None:
    pair = await Pair(live).join()
    pair.agent.send(
        Coordinate(update_self=pair.node(*[f"192.0.2.1:{n}" for n in range(1, MAX_ENDPOINTS + 1)]))
    )
    assert await answered(pair.agent) == []


async def test_a_closed_coordinator_ends_streams_with_its_cause_and_opens_none(
    live: LiveServer,
) -> None:
    pair = await (await Pair(live).join()).meet()
    coordination = live.server.coordination
    coordination.close("server.shutdown", actor="test", error="coordinator unhealthy")
    for peer in (pair.agent, pair.client):
        closed = await peer.expect(CoordinateClosed)
        assert (closed.error, closed.cause) == ("coordinator unhealthy", "server.shutdown")
        peer.send(CoordinateOpen())
        assert (await peer.expect(CoordinateClosed)).error == "coordinator unhealthy"
    coordination.reopen()
    assert await opened(pair.agent) == pair.workspace_id


@pytest.mark.parametrize(
    ("deaf", "cause"), [("client", "client.not_reading"), ("agent", "agent.not_reading")]
)
async def test_a_peer_that_does_not_read_is_removed_with_its_cause(
    live: LiveServer, deaf: str, cause: str
) -> None:
    pair = await (await Pair(live).join()).meet()
    listener, talker = (pair.client, pair.agent) if deaf == "client" else (pair.agent, pair.client)
    deaf_id, talker_id = pair.client_id, pair.workspace_id
    if deaf == "agent":
        deaf_id, talker_id = talker_id, deaf_id
    transport = listener.stream._ws.transport
    transport.pause_reading()
    coordination = live.server.coordination
    streams = coordination._coordinator._streams
    for number in range(60_000):  # past the rate limit: what counts is the buffer
        if deaf_id not in streams:
            break
        where = [f"{'h' * 200}:{number}-{n}" for n in range(MAX_ENDPOINTS)]
        coordination.request(streams[talker_id], Coordinate(update_self=node(talker_id, *where)))
        if number % 50 == 0:
            await asyncio.sleep(0)  # whoever reads may read
    transport.resume_reading()
    message = None
    while not isinstance(message, CoordinateClosed):
        message = await asyncio.wait_for(listener.inbox.get(), DEADLINE_S)
    assert message.cause == cause
    (update,) = await heard(talker)
    assert (update.kind, update.cause) == (PeerWord.DISCONNECTED, cause)
