"""Both ends of a tunnel with a relay's words between them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from tests.support.clock import EPOCH, LoopClock
from tests.support.net.cable import Cable
from tests.support.net.tunnels import agent_over, client_over, direct
from tether.attribution import evidence as ev
from tether.attribution.vocabulary import ConnectionMethod, Party, StreamEnd, Vantage
from tether.net.tasks import Tasks
from tether.net.transport.tcp import SILENT_AFTER_MS
from tether.net.tunnel.endpoint import DETACHED_LINGER_S, TunnelEndpoint
from tether.protocol.link.link import LINGER_S
from tether.protocol.messages.base import Message
from tether.protocol.messages.codec import TUNNEL_CHUNK
from tether.protocol.messages.control import Pong, Unsupported
from tether.protocol.messages.derp import PeerGone, RelayGoodbye, encode_word
from tether.protocol.messages.tunnel import SessionResult, TunnelHello
from tether.protocol.tunnel.frames import control_frame
from tether.protocol.tunnel.resume_policy import Waits

pytestmark = pytest.mark.virtual_time

DAY = 24 * 3600.0
NO_WAIT = Waits(vanished_s=0.0, policy_s=0.0)


class End:
    """A tunnel's end that keeps what it is given."""

    def __init__(self, stream: Any, *, me: Party, peer: Party) -> None:
        self.data = b""
        self.messages: list[Message] = []
        self.gate: asyncio.Event | None = None
        self.tunnel = TunnelEndpoint(
            stream,
            me=me,
            peer=peer,
            clock=LoopClock(),
            version="0.1.0",
            on_data=self._take,
            on_message=self.messages.append,
        )

    def _take(self, data: memoryview) -> Awaitable[None] | None:
        self.data += data
        return None if self.gate is None else self._wait(self.gate)

    async def _wait(self, gate: asyncio.Event) -> None:
        await gate.wait()


class Tunnel:
    """A client and an agent with a cable for a relay."""

    def __init__(self, *, waits: Waits | None = None, **cable: Any) -> None:
        self.cable, clock = Cable(**cable), LoopClock()
        self.client_stream = client_over(self.cable.left, clock, waits=waits)
        self.agent_stream = agent_over(self.cable.right, clock, waits=waits)
        self.client = End(self.client_stream, me=Party.CLIENT, peer=Party.AGENT)
        self.agent = End(self.agent_stream, me=Party.AGENT, peer=Party.CLIENT)
        self.tasks = Tasks("test")
        self.client_run = self.tasks.spawn(self.client.tunnel.run(), "client")
        self.agent_run = self.tasks.spawn(self.agent.tunnel.run(), "agent")


async def test_bytes_pass_in_order_and_are_counted() -> None:
    t = Tunnel()
    blob = bytes(i % 251 for i in range(3 * TUNNEL_CHUNK + 7))
    t.client.tunnel.write(blob)
    t.client.tunnel.write(bytearray(b"abc"))
    await t.client.tunnel.drain()
    t.agent.tunnel.write(memoryview(b"hello"))
    await asyncio.sleep(1)
    assert t.agent.data == blob + b"abc"
    assert t.client.data == b"hello"
    assert (t.client.tunnel.tx_bytes, t.client.tunnel.rx_bytes) == (len(blob) + 3, 5)
    assert (t.agent.tunnel.tx_bytes, t.agent.tunnel.rx_bytes) == (5, len(blob) + 3)
    await t.tasks.cancel()


async def test_control_messages_pass_beside_the_data() -> None:
    t = Tunnel()
    t.agent.tunnel.send(SessionResult(exit_signal="KILL"))
    await asyncio.sleep(1)
    assert t.client.messages == [SessionResult(exit_signal="KILL")]
    assert t.agent.messages == []
    await t.tasks.cancel()


async def test_an_idle_tunnel_lives_for_days() -> None:
    t = Tunnel()
    await asyncio.sleep(7 * 86_400)
    assert not t.client_run.done()
    assert not t.agent_run.done()
    await t.tasks.cancel()


async def test_a_reader_that_is_busy_slows_the_writer() -> None:
    t = Tunnel(window=TUNNEL_CHUNK)
    t.agent.gate = asyncio.Event()

    async def write() -> None:
        for _ in range(160):
            t.client.tunnel.write(b"x" * TUNNEL_CHUNK)
            await t.client.tunnel.drain()

    writing = t.tasks.spawn(write(), "write")
    await asyncio.sleep(60)
    assert not writing.done()
    assert len(t.agent.data) == TUNNEL_CHUNK
    t.agent.gate.set()
    await writing
    await asyncio.sleep(60)
    assert len(t.agent.data) == 160 * TUNNEL_CHUNK
    await t.tasks.cancel()


async def test_a_goodbye_reaches_the_other_end() -> None:
    t = Tunnel(delay=0.01)
    await asyncio.sleep(1)
    t.agent.tunnel.leave("agent.shutdown", actor="signal:15")
    client, agent = await t.client_run, await t.agent_run
    for cell, vantage, at in ((agent, Vantage.AGENT, 1.0), (client, Vantage.CLIENT, 1.01)):
        assert cell.facts == (
            ev.GoodbyeSaid(
                vantage=vantage,
                at=EPOCH + at,
                by=Party.AGENT,
                cause="agent.shutdown",
                actor="signal:15",
            ),
        )


@pytest.mark.parametrize("resumed", [False, True])
async def test_a_goodbye_that_nobody_can_hear_is_not_waited_for_long(resumed: bool) -> None:
    t = Tunnel(delay=0.01)
    await asyncio.sleep(1)
    t.cable.reset()
    await asyncio.sleep(1)
    if resumed:
        again = Cable(delay=0.01)
        t.agent_stream.add(direct(2, again.right, Party.CLIENT))
        t.client_stream.add(direct(2, again.left, Party.AGENT))
        await asyncio.sleep(1)
        again.go_silent()
    clock = asyncio.get_running_loop().time
    began = clock()
    t.client.tunnel.leave("client.closed")
    await t.client_run
    closing_s = 1.0 if resumed else 0.0  # what was said last may leave yet
    linger_s = LINGER_S if resumed else DETACHED_LINGER_S
    assert linger_s <= clock() - began < linger_s + closing_s + 0.1


def carrier_ended(peer: Party, how: StreamEnd, at: float, **more: Any) -> ev.CarrierEnded:
    return ev.CarrierEnded(
        vantage=more.pop("vantage", Vantage.AGENT),
        at=EPOCH + at,
        carrier=1,
        method=ConnectionMethod.DERP,
        where="local",
        peer=peer,
        how=how,
        **more,
    )


async def test_a_lost_stream_is_the_relays_and_who_did_not_come_by_another_is_the_client() -> None:
    t = Tunnel(waits=Waits(policy_s=60.0))
    await asyncio.sleep(1)
    t.cable.reset()
    cell = await t.agent_run
    assert cell.facts == (
        carrier_ended(Party.RELAY, StreamEnd.RESET, 1.0, errno="ECONNRESET"),
        ev.NeverReturned(vantage=Vantage.AGENT, at=EPOCH + 61.0, party=Party.CLIENT, waited_s=60.0),
    )
    await t.tasks.cancel()


async def test_what_the_relay_saw_of_the_other_end_is_the_cause_in_the_end() -> None:
    t = Tunnel()
    await asyncio.sleep(1)
    await t.cable.left.send(encode_word(PeerGone(how="reset", errno="ECONNRESET")))
    cell = await t.agent_run
    assert cell.facts == (
        carrier_ended(
            Party.CLIENT, StreamEnd.RESET, 1.01, vantage=Vantage.RELAY, errno="ECONNRESET"
        ),
        ev.StreamEnded(
            vantage=Vantage.RELAY,
            at=EPOCH + 1.01,
            peer=Party.CLIENT,
            how=StreamEnd.RESET,
            errno="ECONNRESET",
        ),
    )
    assert asyncio.get_running_loop().time() == pytest.approx(DAY + 1.01, abs=0.01)
    await t.tasks.cancel()


async def test_a_relays_goodbye_is_noted_and_no_end() -> None:
    t = Tunnel()
    await asyncio.sleep(1)
    word = RelayGoodbye(cause="relay.restart", actor="signal:15", detail="upgrade")
    await t.cable.left.send(encode_word(word))
    await asyncio.sleep(3600)
    assert not t.agent.tunnel.cell.ended
    assert t.agent.tunnel.cell.facts == (
        carrier_ended(
            Party.RELAY,
            StreamEnd.CLOSED,
            1.01,
            vantage=Vantage.RELAY,
            said="relay.restart",
        ),
    )
    await t.tasks.cancel()


async def test_a_tunnel_that_was_resumed_says_so_in_its_record() -> None:
    t = Tunnel()
    await asyncio.sleep(1)
    t.cable.reset()
    t.client.tunnel.write(b"meanwhile")
    await asyncio.sleep(60)
    again = Cable(delay=0.01)
    t.agent_stream.add(direct(2, again.right, Party.CLIENT))
    t.client_stream.add(direct(2, again.left, Party.AGENT))
    await asyncio.sleep(1)
    assert t.agent.data == b"meanwhile"
    t.client.tunnel.leave("client.closed")
    client, agent = await t.client_run, await t.agent_run
    seen = ["carrier_ended", "tunnel_resumed"]
    assert [fact.kind for fact in client.facts] == [*seen, "goodbye_said"]
    assert [fact.kind for fact in agent.facts] == [*seen, *seen, "goodbye_said"]
    assert [fact.vantage for fact in agent.facts[2:4]] == [Vantage.CLIENT] * 2
    resumed = agent.facts[1]
    assert isinstance(resumed, ev.TunnelResumed)
    assert (resumed.method, resumed.where) == (ConnectionMethod.DIRECT, "192.0.2.1:9")
    assert resumed.gap_s == pytest.approx(60.03, abs=0.02)


@pytest.mark.parametrize("frame", [b"", b"\x07", b"SSH-2.0-x\r\n", b"\x01\xff"], ids=repr)
async def test_a_frame_that_means_nothing_is_the_other_ends_fault(frame: bytes) -> None:
    t = Tunnel()
    await t.client_stream.send(frame)
    cell = await t.agent_run
    (fact,) = cell.facts
    assert isinstance(fact, ev.ProtocolViolated)
    assert fact.by is Party.CLIENT
    await t.tasks.cancel()


async def test_another_major_version_is_refused_and_a_newer_minor_is_not() -> None:
    t = Tunnel()
    await t.client_stream.send(
        control_frame(TunnelHello(protocol=(2, 99), party="client", version="2.99"))
    )
    await asyncio.sleep(1)
    assert not t.agent_run.done()
    await t.client_stream.send(
        control_frame(TunnelHello(protocol=(3, 0), party="client", version="3.0"))
    )
    cell = await t.agent_run
    (fact,) = cell.facts
    assert isinstance(fact, ev.ProtocolViolated)
    assert fact.what == "tunnel protocol 3, this version speaks 2"
    await t.tasks.cancel()


async def test_a_message_of_a_newer_end_is_answered_and_passed_on() -> None:
    t = Tunnel()
    await t.client_stream.send(b"\x01\x92\xa8teleport\x80")
    await t.client_stream.send(control_frame(Pong(n=1)))
    await asyncio.sleep(1)
    assert [type(message).__name__ for message in t.agent.messages] == ["Unrecognized"]
    assert t.client.messages == [Unsupported(message_type="teleport")]
    await t.tasks.cancel()


# -- dialling a relay, over real sockets --------------------------------------------------


COUNTERS = {
    "retransmits": 5,
    "probes": 0,
    "unacked": 3,
    "last_data_recv_ms": 40_000,
    "last_ack_recv_ms": SILENT_AFTER_MS + 1_000,
    "pmtu": 1500,
    "rtt_us": 20_000,
    "total_retrans": 5,
}


async def test_a_relay_that_acknowledges_nothing_for_too_long_is_silent() -> None:
    t = Tunnel(waits=NO_WAIT)
    t.cable.right.tcp = COUNTERS
    cell = await t.agent_run
    carrier, counters, ended = cell.facts
    assert carrier.kind == "carrier_ended"
    assert isinstance(counters, ev.TcpCounters)
    assert isinstance(ended, ev.StreamEnded)
    assert (counters.peer, counters.unacked) == (Party.RELAY, 3)
    assert (ended.peer, ended.how, ended.silence_s) == (Party.RELAY, StreamEnd.SILENT, 21.0)
    await t.tasks.cancel()


@pytest.mark.parametrize(
    "lively",
    [
        {"unacked": 0},  # an idle path between two probes
        {
            "last_ack_recv_ms": SILENT_AFTER_MS - 1_000
        },  # a peer that is stopped: its kernel acknowledges
    ],
)
async def test_a_slow_or_stopped_peer_is_not_called_dead(lively: dict[str, int]) -> None:
    t = Tunnel()
    t.cable.right.tcp = {**COUNTERS, **lively}
    await asyncio.sleep(3600)
    assert not t.agent.tunnel.cell.ended
    await t.tasks.cancel()


async def test_one_stalled_look_is_not_enough() -> None:
    t = Tunnel()
    t.cable.right.tcp = COUNTERS
    await asyncio.sleep(7)
    t.cable.right.tcp = {**COUNTERS, "last_ack_recv_ms": 5}
    await asyncio.sleep(60)
    assert not t.agent.tunnel.cell.ended
    await t.tasks.cancel()
