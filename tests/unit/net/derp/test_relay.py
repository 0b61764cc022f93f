"""The relay over real sockets: what it carries, and what it says when a leg ends."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import socket
import struct
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.support.deadline import DEADLINE_S
from tests.support.net.ws import linger_0
from tether.attribution import evidence as ev
from tether.attribution.vocabulary import Party, Resource, StreamEnd, Vantage
from tether.net.clock import SystemClock
from tether.net.derp.metrics import RelayCounts
from tether.net.derp.relay import Relay, RelayLimits
from tether.net.derp.splice import CarrierEnding
from tether.net.derp.tickets import Ticket
from tether.net.link.host_context import LazyHostContext, SharedHostContext
from tether.net.tasks import Tasks
from tether.net.transport.http_server import HttpServer, bind
from tether.net.transport.streams import DialFailed, StreamLost
from tether.net.transport.tcp import SILENT_AFTER_MS, is_stalled
from tether.net.transport.ws_client import ClientStream, dial
from tether.net.transport.ws_server import ServerStream
from tether.net.tunnel.relay_dial import dial_relay
from tether.protocol.derp.pairing import CarrierId, PairingTable
from tether.protocol.messages.codec import MAX_TUNNEL_FRAME
from tether.protocol.messages.derp import (
    PeerGone,
    RelayGoodbye,
    Restarting,
    decode_word,
    encode_word,
)

pytestmark = pytest.mark.anyio

CLIENT, AGENT = Party.CLIENT, Party.AGENT


@dataclass(frozen=True)
class Remembered:
    """`HostContext` that always tell the same."""

    facts: tuple[ev.Evidence, ...]

    def since(self, silence_s: float = 0.0, local_address: str = "") -> Sequence[ev.Evidence]:
        return self.facts


@dataclass
class Told:
    """A `CarrierLog` that keeps what it is told."""

    paired: list[str] = field(default_factory=list)
    endings: dict[str, CarrierEnding] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def carrier_joined(self, carrier: CarrierId) -> None:
        self.paired.append(carrier.connection_id)
        self.changed.set()

    async def carrier_ended(self, carrier: CarrierId, ending: CarrierEnding) -> None:
        connection_id = carrier.connection_id
        assert connection_id in self.paired
        assert connection_id not in self.endings
        self.endings[connection_id] = ending
        self.changed.set()

    async def ending(self, connection_id: str = "c1") -> CarrierEnding:
        async with asyncio.timeout(DEADLINE_S):
            while connection_id not in self.endings:
                self.changed.clear()
                await self.changed.wait()
        return self.endings[connection_id]


@dataclass
class Site:
    """A relay on a free port. A leg's ticket is its token: `CONNECTION/LEG[/CARRIER]`."""

    relay: Relay
    told: Told
    registry: CollectorRegistry
    url: str
    dialled: list[ClientStream] = field(default_factory=list)

    async def leg(self, party: Party, connection_id: str = "c1") -> ClientStream:
        """A leg that has not heard whether it is joined."""
        stream = await dial(self.url, token=f"{connection_id}/{party}", max_size=1 << 20)
        self.dialled.append(stream)
        return stream

    async def join(self, connection_id: str = "c1") -> tuple[ClientStream, ClientStream]:
        """Both legs, joined: client, agent."""
        legs = await asyncio.gather(
            *(dial_relay(self.url, f"{connection_id}/{party}") for party in (CLIENT, AGENT))
        )
        client, agent = legs
        assert isinstance(client, ClientStream)
        assert isinstance(agent, ClientStream)
        self.dialled += (client, agent)
        return client, agent


@contextlib.asynccontextmanager
async def site(**options: Any) -> AsyncIterator[Site]:
    told, registry = Told(), CollectorRegistry()
    relay = Relay(log=told, clock=SystemClock(), counts=RelayCounts(registry), **options)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        stream = ServerStream(scope, receive, send)
        token = dict(scope["headers"])[b"authorization"].decode().removeprefix("Bearer ")
        connection_id, party, *number = token.split("/")
        await stream.accept()
        ticket = Ticket(connection_id, Party(party), *map(int, number))
        await relay.serve(stream, ticket, "192.0.2.1")

    listener, sock, tasks = HttpServer(app), bind("127.0.0.1", 0), Tasks("site")
    serving = tasks.spawn(listener.serve(sockets=[sock]), "listener")
    await listener.wait_started()
    here = Site(relay, told, registry, f"ws://127.0.0.1:{sock.getsockname()[1]}/derp")
    try:
        yield here
    finally:
        for leg in here.dialled:
            leg._ws.transport.abort()
        relay.stop(RelayGoodbye(cause="server.shutdown"))
        listener.should_exit = True
        await serving
        await relay.aclose()


async def heard(leg: ClientStream) -> bytes | str:
    return await asyncio.wait_for(leg.recv(), DEADLINE_S)


async def lost(leg: ClientStream) -> StreamLost:
    try:
        while True:
            await heard(leg)
    except StreamLost as end:
        return end


def the_stream_ended(ending: CarrierEnding) -> tuple[Party, StreamEnd, str, int | None]:
    (fact,) = [f for f in ending.facts if isinstance(f, ev.StreamEnded)]
    assert fact.vantage is Vantage.RELAY
    return fact.peer, fact.how, fact.errno, fact.close_code


# -- carrying -----------------------------------------------------------------------------------


async def test_frames_pass_both_ways_whole_and_in_order() -> None:
    frames = [os.urandom(size) for size in (1, 2, 1000, 65_537, MAX_TUNNEL_FRAME, 3)]
    async with site() as here:
        client, agent = await here.join()
        for source, sink in ((client, agent), (agent, client)):
            for frame in frames:
                await source.send(frame)
            assert [await heard(sink) for _ in frames] == frames


async def test_what_was_carried_is_counted() -> None:
    async with site() as here:
        client, agent = await here.join()
        await client.send(b"x" * 10)
        await agent.send(b"y" * 70_000)
        await heard(client)
        await heard(agent)
        await client.close(1000, "")
        ending = await here.told.ending()
    assert (ending.rx_bytes, ending.tx_bytes) == (10, 70_000)
    assert here.registry.get_sample_value("tether_relay_bytes_total") == 70_010


async def test_a_leg_that_does_not_read_slows_the_other_one_and_nothing_piles_up() -> None:
    frame, many = b"z" * (64 << 10), 1200
    async with site() as here:
        client, agent = await here.join()

        async def pour() -> None:
            for _ in range(many):
                await client.send(frame)

        tasks = Tasks("pour")
        pouring = tasks.spawn(pour(), "pour")
        carried, still = 0.0, 0
        while still < 20:  # until the relay takes no more
            await asyncio.sleep(0.01)
            now = here.registry.get_sample_value("tether_relay_bytes_total") or 0.0
            carried, still = now, still + 1 if now == carried else 0
        assert not pouring.done()
        assert carried < many * len(frame) / 2
        for _ in range(many):
            assert await heard(agent) == frame
        await pouring


async def test_legs_of_different_tunnels_do_not_hear_one_another() -> None:
    async with site() as here:
        (client1, agent1), (client2, agent2) = await here.join("c1"), await here.join("c2")
        await client1.send(b"one")
        await client2.send(b"two")
        assert (await heard(agent1), await heard(agent2)) == (b"one", b"two")


# -- pairing ------------------------------------------------------------------------------------


async def test_a_leg_that_waits_too_long_is_told() -> None:
    async with site(table=PairingTable(wait_s=0.05)) as here:
        with pytest.raises(DialFailed, match="the workspace's agent did not come to the relay"):
            await dial_relay(here.url, "c1/client")
    assert here.told.paired == []


async def test_a_refusal_of_the_agent_is_told_to_the_client_that_waits() -> None:
    async with site() as here:
        leg = await here.leg(CLIENT)
        async with asyncio.timeout(DEADLINE_S):
            while not len(here.relay._table):
                await asyncio.sleep(0)
        here.relay.decline(CarrierId("c1"), "workspace dev is standing by")
        word = await heard(leg)
    assert isinstance(word, str)
    assert decode_word(word) == RelayGoodbye(cause="", detail="workspace dev is standing by")


async def test_a_refusal_of_the_agent_is_told_to_the_client_that_comes_later() -> None:
    async with site() as here:
        here.relay.decline(CarrierId("c1"), "workspace dev is standing by")
        with pytest.raises(DialFailed, match="workspace dev is standing by"):
            await dial_relay(here.url, "c1/client")


async def test_a_leg_that_leaves_while_it_waits_is_not_joined() -> None:
    async with site() as here:
        leg = await here.leg(CLIENT)
        await leg.close(1000, "")
        async with asyncio.timeout(DEADLINE_S):
            while here.registry.get_sample_value("tether_relay_legs"):
                await asyncio.sleep(0)
        again = await here.join()
        await again[0].send(b"fine")
        assert await heard(again[1]) == b"fine"


async def test_a_leg_that_speaks_before_it_is_joined_is_heard_when_it_is() -> None:
    async with site() as here:
        early = await here.leg(CLIENT)
        await early.send(b"early")
        agent = await dial_relay(here.url, "c1/agent")
        assert await agent.recv() == b"early"


async def test_two_carriers_of_one_tunnel_are_two_pairs() -> None:
    async with site() as here:
        first = await here.join()
        second = await asyncio.gather(
            *(dial_relay(here.url, f"c1/{party}/2") for party in (CLIENT, AGENT))
        )
        for number, (client, agent) in enumerate((first, second)):
            await client.send(bytes([number]))
            assert await agent.recv() == bytes([number])
        assert set(here.relay.living()) == {CarrierId("c1", 1), CarrierId("c1", 2)}
        await first[0].close(1000, "")
        await here.told.ending()
        assert here.relay.lives("c1")
        await second[0].close(1000, "")


# -- limits -------------------------------------------------------------------------------------


async def test_an_address_has_so_many_legs_and_no_more() -> None:
    async with site(limits=RelayLimits(max_legs_per_ip=2)) as here:
        client, agent = await here.join("c1")
        with pytest.raises(DialFailed, match="this address has 2 connections at this relay"):
            await dial_relay(here.url, "c2/client")
        await client.close(1000, "")
        await agent.close(1000, "")
        async with asyncio.timeout(DEADLINE_S):
            while here.registry.get_sample_value("tether_relay_legs"):
                await asyncio.sleep(0)
        await here.join("c3")
    refused = here.registry.get_sample_value(
        "tether_relay_legs_refused_total", {"reason": "too_many_legs"}
    )
    assert refused == 1


async def test_a_full_relay_says_so_and_goes_on_with_what_it_carries() -> None:
    async with site(limits=RelayLimits(max_carriers=1)) as here:
        client, agent = await here.join("c1")
        with pytest.raises(DialFailed, match="the relay is full"):
            await dial_relay(here.url, "c2/client")
        await client.send(b"on")
        assert await heard(agent) == b"on"


async def test_a_bandwidth_limit_slows_a_carrier_and_loses_nothing() -> None:
    frame, many, per_s = b"z" * 20_000, 10, 400_000
    async with site(limits=RelayLimits(bytes_per_second=per_s)) as here:
        client, agent = await here.join()
        began = SystemClock().now().mono
        for _ in range(many):
            await client.send(frame)
        assert [await heard(agent) for _ in range(many)] == [frame] * many
        took = SystemClock().now().mono - began
    assert took >= many * len(frame) / per_s - 0.25 - 0.01


# -- leaving ------------------------------------------------------------------------------------


async def test_a_planned_restart_is_announced_to_both_legs_and_ends_nothing() -> None:
    async with site() as here:
        client, agent = await here.join()
        here.relay.announce(2.5)
        for leg in (client, agent):
            word = await heard(leg)
            assert isinstance(word, str)
            assert decode_word(word) == Restarting(reconnect_in_s=2.5)
        await client.send(b"still here")
        assert await heard(agent) == b"still here"
        assert await here.relay.wait_empty(0.01) is False
        await client.close(1000, "")
        assert await here.relay.wait_empty(DEADLINE_S) is True


# -- ends ---------------------------------------------------------------------------------------


async def test_the_leg_that_stays_is_told_of_a_close_after_all_that_had_arrived() -> None:
    frames = [bytes([n]) * 60_000 for n in range(40)]
    async with site() as here:
        client, agent = await here.join()
        for frame in frames:
            await client.send(frame)
        await client.close(1000, "")
        assert [await heard(agent) for _ in frames] == frames
        word = await heard(agent)
        assert isinstance(word, str)
        assert decode_word(word) == PeerGone(how="closed", close_code=1000)
        end = await lost(agent)
        ending = await here.told.ending()
    assert (end.how, end.close_code) == (StreamEnd.CLOSED, 1000)
    assert the_stream_ended(ending) == (CLIENT, StreamEnd.CLOSED, "", 1000)


@pytest.mark.parametrize("party", [CLIENT, AGENT])
async def test_a_killed_process_is_an_eof(party: Party) -> None:
    async with site() as here:
        legs = dict(zip((CLIENT, AGENT), await here.join(), strict=True))
        gone = legs.pop(party)
        gone._ws.transport.abort()
        (stays,) = legs.values()
        word = await heard(stays)
        assert isinstance(word, str)
        ending = await here.told.ending()
    assert decode_word(word) == PeerGone(how="eof")
    assert the_stream_ended(ending) == (party, StreamEnd.EOF, "", None)
    assert [f.peer for f in ending.facts if isinstance(f, ev.TcpCounters)] == [party]


async def test_a_reset_is_a_reset() -> None:
    async with site() as here:
        client, agent = await here.join()
        linger_0(client._ws.transport.get_extra_info("socket"))
        client._ws.transport.abort()
        word = await heard(agent)
        assert isinstance(word, str)
        ending = await here.told.ending()
    assert decode_word(word) == PeerGone(how="reset", errno="ECONNRESET")
    assert the_stream_ended(ending) == (CLIENT, StreamEnd.RESET, "ECONNRESET", None)


async def test_what_the_relays_own_machine_suffered_is_told_with_the_end_of_a_leg() -> None:
    pressed = ev.Pressure(
        vantage=Vantage.SERVER, at=1.0, party=Party.SERVER, resource=Resource.CPU, full_avg10=95.0
    )
    lacking = ev.Exhausted(
        vantage=Vantage.SERVER, at=1.0, party=Party.SERVER, resource=Resource.DISK
    )
    of_the_server = LazyHostContext()
    of_the_server.begin(Remembered((pressed, lacking)))
    lent = SharedHostContext(of_the_server, host=Party.SERVER, guest=Party.RELAY)
    async with site(host_context=lent) as here:
        client, _ = await here.join()
        client._ws.transport.abort()
        ending = await here.told.ending()
    suffered = [fact for fact in ending.facts if not isinstance(fact, ev.StreamEnded)]
    assert [fact for fact in suffered if not isinstance(fact, ev.TcpCounters)] == [
        replace(pressed, vantage=Vantage.RELAY, party=Party.RELAY)
    ]


async def test_the_end_of_the_second_leg_is_no_second_end() -> None:
    async with site() as here:
        client, agent = await here.join()
        client._ws.transport.abort()
        await here.told.ending()
        agent._ws.transport.abort()
        async with asyncio.timeout(DEADLINE_S):
            while len(here.relay):
                await asyncio.sleep(0)
    assert list(here.told.endings) == ["c1"]


@pytest.mark.parametrize(
    ("frame", "what"),
    [
        ("hello", "a text frame on a relayed tunnel"),
        (b"x" * (MAX_TUNNEL_FRAME + 1), "a tunnel frame of 262145 bytes"),
    ],
    ids=["text", "too large"],
)
async def test_a_leg_that_breaks_the_protocol_ends_the_tunnel_and_both_hear_who_did(
    frame: bytes | str, what: str
) -> None:
    async with site() as here:
        client, agent = await here.join()
        await client.send(frame)
        words = [await heard(leg) for leg in (client, agent)]
        ending = await here.told.ending()
    goodbye = RelayGoodbye(cause="client.protocol_error", detail=what)
    assert words == [encode_word(goodbye)] * 2
    (fact,) = ending.facts
    assert isinstance(fact, ev.ProtocolViolated)
    assert (fact.vantage, fact.by, fact.what) == (Vantage.RELAY, CLIENT, what)


async def test_a_stopping_relay_says_so_to_all_and_takes_no_more() -> None:
    goodbye = RelayGoodbye(cause="server.shutdown", actor="signal:15 from pid 1 uid 0")
    async with site() as here:
        client, agent = await here.join()
        waiting = await here.leg(CLIENT, "c2")
        async with asyncio.timeout(DEADLINE_S):
            while not len(here.relay._table):
                await asyncio.sleep(0)
        assert here.relay.stop(goodbye) == [CarrierId("c1")]
        assert not here.relay.lives("c1")
        words = [await heard(leg) for leg in (client, agent, waiting)]
        late = await here.leg(AGENT, "c3")
        words.append(await heard(late))
        ending = await here.told.ending()
    assert words == [encode_word(goodbye)] * 4
    (fact,) = ending.facts
    assert isinstance(fact, ev.GoodbyeSaid)
    assert (fact.by, fact.cause, fact.actor) == (Party.RELAY, "server.shutdown", goodbye.actor)


async def test_one_tunnel_can_be_ended_by_decision() -> None:
    goodbye = RelayGoodbye(cause="auth.user_revoked", actor="admin:bob")
    async with site() as here:
        (client, _), (other, other_agent) = await here.join("c1"), await here.join("c2")
        here.relay.end("c1", goodbye)
        assert await heard(client) == encode_word(goodbye)
        await other.send(b"on")
        assert await heard(other_agent) == b"on"


async def test_a_tunnel_that_is_not_joined_yet_can_be_ended_by_decision() -> None:
    async with site() as here:
        here.relay.end("c1", RelayGoodbye(cause="workspace.stopped"))
        for leg in ("client", "agent"):
            with pytest.raises(DialFailed, match="The workspace was stopped"):
                await dial_relay(here.url, f"c1/{leg}")


async def test_a_failing_log_does_not_end_a_tunnel() -> None:
    async with site() as here:

        async def fail(carrier: CarrierId) -> None:
            raise RuntimeError("disk full")

        here.told.carrier_joined = fail  # type: ignore[method-assign]
        client, agent = await here.join()
        await client.send(b"on")
        assert await heard(agent) == b"on"


# -- silence ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counters", "stalled"),
    [
        (None, False),
        ({"unacked": 0, "probes": 0, "last_ack_recv_ms": SILENT_AFTER_MS + 1}, False),
        ({"unacked": 3, "probes": 0, "last_ack_recv_ms": SILENT_AFTER_MS}, False),
        ({"unacked": 3, "probes": 0, "last_ack_recv_ms": SILENT_AFTER_MS + 1}, True),
        ({"unacked": 0, "probes": 2, "last_ack_recv_ms": SILENT_AFTER_MS + 1}, True),
    ],
    ids=["unknown", "nothing outstanding", "patient", "data unacknowledged", "probes unanswered"],
)
async def test_a_path_is_stalled_if_something_outstanding_is_not_acknowledged(
    counters: dict[str, int] | None, stalled: bool
) -> None:
    assert is_stalled(counters) is stalled


def deafen(sock: Any) -> None:
    """From now on every packet to this socket is lost (a classic BPF filter that returns 0)."""
    program = struct.pack("HBBI", 0x06, 0, 0, 0)
    kept = ctypes.create_string_buffer(program, len(program))
    with socket.socket(fileno=os.dup(sock.fileno())) as same:
        filtered = struct.pack("HL", 1, ctypes.addressof(kept))
        same.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, filtered)


SO_ATTACH_FILTER = 26


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="needs TCP_INFO and socket filters"
)
async def test_a_leg_whose_path_swallows_everything_is_given_up() -> None:
    async with site(watch_every_s=0.1, silent_after_ms=300) as here:
        client, agent = await here.join()
        for leg in (client._ws, here.relay._carriers[CarrierId("c1")].client.stream._protocol):
            deafen(leg.transport.get_extra_info("socket"))
        await agent.send(b"is anybody there?")
        word = await heard(agent)
        ending = await here.told.ending()
    assert isinstance(word, str)
    gone = decode_word(word)
    assert isinstance(gone, PeerGone)
    assert gone.how == "silent"
    assert gone.silence_s is not None
    assert gone.silence_s > 0.3
    assert the_stream_ended(ending) == (CLIENT, StreamEnd.SILENT, "", None)
    (counters,) = [fact for fact in ending.facts if isinstance(fact, ev.TcpCounters)]
    assert counters.unacked > 0


async def test_an_idle_tunnel_is_not_silent() -> None:
    async with site(watch_every_s=0.02, silent_after_ms=100) as here:
        client, agent = await here.join()
        await asyncio.sleep(0.5)  # of nothing at all
        await client.send(b"still here")
        assert await heard(agent) == b"still here"


# -- leaks --------------------------------------------------------------------------------------


async def test_200_tunnels_leave_nothing_behind() -> None:
    async with site() as here:

        async def one(number: int) -> None:
            client, agent = await here.join(f"c{number}")
            await client.send(b"x")
            await heard(agent)
            leg = client if number % 2 else agent
            if number % 3:
                await leg.close(1000, "")
            else:
                leg._ws.transport.abort()
            await here.told.ending(f"c{number}")
            await client.close(1000, "")
            await agent.close(1000, "")

        await one(1000)  # what is made once, is made
        await nothing_but(here, float("inf"))
        before = in_use()
        for start in range(0, 200, 20):
            await asyncio.gather(*(one(number) for number in range(start, start + 20)))
        await nothing_but(here, before)
        assert len(here.told.endings) == 201


def in_use() -> int:
    """Tasks and file descriptors of this process."""
    gc.collect()
    return len(asyncio.all_tasks()) + len(os.listdir("/proc/self/fd"))


async def nothing_but(here: Site, before: float) -> None:
    """Wait until every leg is served, and nothing is in use that was not in use before."""
    async with asyncio.timeout(DEADLINE_S):
        while here.registry.get_sample_value("tether_relay_legs") or in_use() > before:
            await asyncio.sleep(0.01)
