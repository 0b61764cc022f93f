"""A tunnel's stream over cables and sockets: what a user of it sees when carriers come and go."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable

import pytest

from tests.support.clock import EPOCH, LoopClock
from tests.support.net.cable import Cable
from tests.support.net.tunnels import KEY, Joined, direct, relayed, resumable
from tether.attribution import evidence as ev
from tether.attribution.vocabulary import ConnectionMethod, Party, StreamEnd, Vantage
from tether.net.clock import SystemClock
from tether.net.tasks import Tasks
from tether.net.transport.streams import StreamLost
from tether.protocol.messages.derp import PeerGone, RelayGoodbye, encode_word
from tether.protocol.timestamp import Timestamp
from tether.protocol.tunnel.buffers import WINDOW
from tether.protocol.tunnel.carrier import FORGED, FORGED_CODE, MAX_FORGED
from tether.protocol.tunnel.events import (
    Answered,
    CarrierLost,
    CarrierRefused,
    CarrierUp,
    Detached,
    GaveUp,
    PathEvent,
    Resumed,
    Used,
)
from tether.protocol.tunnel.frames import OVER, Retired, encode_carrier_frame, encode_opening
from tether.protocol.tunnel.join import JoinRefused
from tether.protocol.tunnel.resume_policy import not_resumed

pytestmark = pytest.mark.virtual_time


@pytest.fixture
async def t() -> AsyncIterator[Joined]:
    joined = Joined(LoopClock(), delay=0.01)
    yield joined
    await joined.close()


def kinds(events: list[PathEvent]) -> list[str]:
    return [type(event).__name__ for event in events]


async def test_messages_pass_both_ways_and_the_carrier_is_known(t: Joined) -> None:
    t.relay(1)
    await t.client.send(b"ping")
    assert await t.agent.recv() == b"ping"
    await t.agent.send(b"pong")
    assert await t.client.recv() == b"pong"
    up, used = t.at_client
    assert isinstance(up, CarrierUp) and up.rtt_s == pytest.approx(0.02)
    assert used == Used(1, 0, 0)
    assert t.at_agent == [CarrierUp(1, None), Used(1, 0, 0)]
    assert t.client.method is ConnectionMethod.DERP
    assert list(t.agent.carriers()) == [1]
    assert set(t.agent.heard_at) == {1}


async def test_a_carrier_that_dies_loses_nothing(t: Joined) -> None:
    t.relay(1)
    await t.client.send(b"one")
    assert await t.agent.recv() == b"one"
    t.cables[1].go_silent()
    await t.client.send(b"two")
    t.cables[1].reset()
    await asyncio.sleep(0.5)
    assert (t.client.in_use, t.agent.in_use) == (0, 0)
    assert t.agent.in_use == 0
    await t.client.send(b"three")
    t.relay(2)
    assert [await t.agent.recv(), await t.agent.recv()] == [b"two", b"three"]
    assert kinds(t.at_agent)[-3:] == ["Detached", "CarrierUp", "Resumed"]
    resumed = t.at_client[-1]
    assert isinstance(resumed, Resumed) and resumed.gap_s == pytest.approx(0.52)


async def test_a_direct_carrier_takes_over_and_the_relays_is_the_standby(t: Joined) -> None:
    t.relay(1)
    await asyncio.sleep(1)
    t.cable(2)
    await asyncio.sleep(1)
    t.client.use(2)
    await t.client.send(b"direct")
    assert await t.agent.recv() == b"direct"
    assert t.agent.method is ConnectionMethod.DIRECT
    t.cables[2].reset()
    await asyncio.sleep(1)
    t.client.use(1)
    await t.client.send(b"relayed")
    assert await t.agent.recv() == b"relayed"


async def test_a_retired_carrier_is_closed_and_no_event(t: Joined) -> None:
    t.relay(1)
    await asyncio.sleep(1)
    t.relay(2)
    await asyncio.sleep(1)
    t.client.use(2)
    t.client.retire(1)
    await asyncio.sleep(1)
    assert t.cables[1].left.closed == (1000, "retired")
    assert kinds(t.at_agent) == ["CarrierUp", "Used", "CarrierUp", "Used"]
    assert kinds(t.at_client) == ["CarrierUp", "Used", "CarrierUp", "Used"]
    t.client.retire(9)


async def test_pings_tell_the_round_trip_of_each_carrier(t: Joined) -> None:
    t.relay(1)
    await asyncio.sleep(1)
    t.client.ping(1)
    t.client.ping(5)
    await asyncio.sleep(1)
    answered = t.at_client[-1]
    assert isinstance(answered, Answered) and answered.rtt_s == pytest.approx(0.02)


async def test_pings_are_answered_while_nobody_reads(t: Joined) -> None:
    t.relay(1)
    await asyncio.sleep(1)
    for _ in range(20):
        await t.client.send(bytes(50_000))
    await asyncio.sleep(1)
    t.client.ping(1)
    await asyncio.sleep(1)
    assert isinstance(t.at_client[-1], Answered)
    assert t.client.unacked_bytes > 1_000_000
    assert t.client.waiting_since == pytest.approx(1.0)


async def test_a_reader_that_does_not_read_stops_the_writer(t: Joined) -> None:
    t.relay(1)

    async def flood() -> None:
        for _ in range(200):
            await t.client.send(bytes(100_000))

    flooding = Tasks("test").spawn(flood(), "flood")
    await asyncio.sleep(60)
    assert not flooding.done()
    assert WINDOW <= t.client.unacked_bytes < WINDOW + 200_000
    for _ in range(200):
        assert len(await t.agent.recv()) == 100_000
    await flooding
    await asyncio.sleep(1)
    assert t.client.waiting_since is None


async def test_who_serves_is_called_in_the_turn_of_arrival_and_may_make_the_rest_wait(
    t: Joined,
) -> None:
    got: list[bytes] = []
    gate = asyncio.Event()

    def sink(message: memoryview) -> Awaitable[None] | None:
        got.append(bytes(message))
        return None if gate.is_set() else wait()

    async def wait() -> None:
        await gate.wait()

    serving = Tasks("test").spawn(t.agent.serve(sink), "serve")
    t.relay(1)
    for message in (b"1", b"2", b"3"):
        await t.client.send(message)
    await asyncio.sleep(1)
    assert got == [b"1"]
    gate.set()
    await asyncio.sleep(1)
    assert got == [b"1", b"2", b"3"]
    await t.client.send(b"4")
    await t.client.close(1000, "")
    with pytest.raises(StreamLost) as lost:
        await serving
    assert got == [b"1", b"2", b"3", b"4"]
    assert (lost.value.how, lost.value.close_code) == (StreamEnd.CLOSED, 1000)


async def test_an_orderly_close_is_heard_after_the_last_message_and_closes_every_carrier(
    t: Joined,
) -> None:
    t.relay(1)
    await asyncio.sleep(1)
    t.relay(2)
    await asyncio.sleep(1)
    await t.agent.send(b"last words")
    await t.agent.close(1000, "goodbye")
    assert await t.client.recv() == b"last words"
    with pytest.raises(StreamLost) as lost:
        await t.client.recv()
    assert (lost.value.how, lost.value.close_code) == (StreamEnd.CLOSED, 1000)
    assert t.client.over
    assert all(cable.left.closed or cable.right.closed for cable in t.cables.values())
    with pytest.raises(StreamLost):
        await t.client.send(b"x")
    assert "Detached" not in kinds(t.at_client)


@pytest.mark.parametrize(
    ("word", "fact", "wait_s"),
    [
        (
            PeerGone(how="eof"),
            ev.StreamEnded(
                vantage=Vantage.RELAY, at=EPOCH + 1.01, peer=Party.CLIENT, how=StreamEnd.EOF
            ),
            86_400.0,
        ),
        (
            PeerGone(how="melted", close_code=4000),
            ev.StreamEnded(
                vantage=Vantage.RELAY,
                at=EPOCH + 1.01,
                peer=Party.CLIENT,
                how=StreamEnd.OTHER,
                close_code=4000,
            ),
            86_400.0,
        ),
        (
            PeerGone(how="silent", silence_s=30.5),
            ev.StreamEnded(
                vantage=Vantage.RELAY,
                at=EPOCH + 1.01,
                peer=Party.CLIENT,
                how=StreamEnd.SILENT,
                silence_s=30.5,
            ),
            86_400.0,
        ),
        (
            RelayGoodbye(cause="server.shutdown", actor="signal:15", detail="upgrade"),
            ev.GoodbyeSaid(
                vantage=Vantage.RELAY,
                at=EPOCH + 1.01,
                by=Party.RELAY,
                cause="server.shutdown",
                actor="signal:15",
                detail="upgrade",
            ),
            86_400.0,
        ),
    ],
    ids=["eof", "newer word", "silent", "goodbye"],
)
async def test_what_the_relay_says_ends_the_carrier(
    word: PeerGone | RelayGoodbye, fact: ev.Evidence, wait_s: float, t: Joined
) -> None:
    cable = t.relay(1)
    await asyncio.sleep(1)
    await cable.left.send('{"type":"congestion"}')
    await cable.left.send(encode_word(word))
    with pytest.raises(StreamLost) as lost:
        await t.agent.recv()
    detached, gave_up = t.at_agent[-2:]
    assert detached == Detached(1, fact, wait_s)
    assert isinstance(gave_up, GaveUp)
    assert gave_up == GaveUp(
        not_resumed(fact, Vantage.AGENT, wait_s, Timestamp(mono=0.0, wall=fact.at))
    )
    assert lost.value.fact == gave_up.fact
    assert asyncio.get_running_loop().time() == pytest.approx(1.01 + wait_s, abs=0.1)


async def test_a_relay_that_raves_is_blamed_itself_and_only_its_carrier_ends(t: Joined) -> None:
    cable = t.relay(1)
    await asyncio.sleep(1)
    await cable.left.send("<html>502 Bad Gateway</html>")
    await asyncio.sleep(1)
    lost = t.at_agent[-1]
    assert isinstance(lost, Detached) and isinstance(lost.fact, ev.ProtocolViolated)
    assert (lost.fact.by, lost.wait_s) == (Party.RELAY, 86_400.0)


async def test_a_relay_that_makes_up_a_frame_costs_its_carrier_and_not_the_tunnel(
    t: Joined,
) -> None:
    cable = t.relay(1)
    await asyncio.sleep(1)
    await t.client.send(b"before")
    await cable.left.send(encode_carrier_frame(Retired(OVER)))
    await asyncio.sleep(1)
    meddled = ev.ProtocolViolated(
        vantage=Vantage.AGENT, at=EPOCH + 1.01, by=Party.RELAY, what=FORGED
    )
    assert t.at_agent[-1] == Detached(1, meddled, 86_400.0)
    assert cable.right.closed == (FORGED_CODE, FORGED)
    left = ev.StreamEnded(
        vantage=Vantage.CLIENT,
        at=EPOCH + 1.02,
        peer=Party.RELAY,
        how=StreamEnd.CLOSED,
        close_code=FORGED_CODE,
        heard_ago_s=0.98,
    )
    assert t.at_client[-1] == Detached(1, left, 86_400.0)
    await t.client.send(b"meanwhile")
    t.relay(2)
    assert [await t.agent.recv(), await t.agent.recv()] == [b"before", b"meanwhile"]


async def test_a_tunnel_whose_every_carrier_is_meddled_with_ends_in_the_end_and_says_why(
    t: Joined,
) -> None:
    for number in range(1, MAX_FORGED + 1):
        cable = t.relay(number)
        await asyncio.sleep(1)
        await cable.left.send(b"\x09")
        await asyncio.sleep(1)
    with pytest.raises(StreamLost) as lost:
        await t.agent.recv()
    assert lost.value.fact == ev.ProtocolViolated(
        vantage=Vantage.AGENT, at=EPOCH + 15.01, by=Party.RELAY, what=FORGED
    )


async def test_a_broken_stream_is_its_peers_violation(t: Joined) -> None:
    cable = t.relay(1)
    await asyncio.sleep(1)
    cable.right.lose(StreamLost(StreamEnd.OTHER, violation="invalid opcode"))
    await asyncio.sleep(1)
    (detached,) = [event for event in t.at_agent if isinstance(event, Detached)]
    assert detached.fact == ev.ProtocolViolated(
        vantage=Vantage.AGENT, at=EPOCH + 1.0, by=Party.RELAY, what="invalid opcode"
    )


async def test_a_refusal_is_sent_before_the_stream_is_closed(t: Joined) -> None:
    cable = Cable(delay=0.01)
    t.agent.add(direct(1, cable.right, Party.CLIENT))
    wrong = KEY.join(Party.CLIENT, "another", 1, 0)
    await cable.left.send(encode_opening(wrong))
    assert await cable.left.recv() == encode_opening(JoinRefused(code="bad_proof"))
    with pytest.raises(StreamLost):
        await cable.left.recv()
    assert t.at_agent == [CarrierRefused(1, JoinRefused(code="bad_proof"))]


async def test_what_was_read_already_is_handed_over_with_the_carrier(t: Joined) -> None:
    cable = Cable(delay=0.01)
    attach = KEY.join(Party.CLIENT, "c1", 4, 0)
    assert t.agent.check_join(attach) is None
    t.agent.add(direct(4, cable.right, Party.CLIENT), encode_opening(attach))
    assert t.at_agent == [CarrierUp(4, None)]
    assert t.agent.check_join(attach) == JoinRefused(code="carrier_used")
    again = Cable()
    t.agent.add(relayed(4, again.right))
    await asyncio.sleep(1)
    assert again.right.closed == (1008, "not wanted")


STALLED = {
    "retransmits": 5,
    "probes": 0,
    "unacked": 3,
    "total_retrans": 5,
    "last_data_recv_ms": 40_000,
    "last_ack_recv_ms": 31_000,
    "pmtu": 1500,
    "rtt_us": 20_000,
}


async def test_a_carrier_whose_kernel_hears_nothing_any_more_has_ended_with_its_counters(
    t: Joined,
) -> None:
    cable = t.cable(1)
    await asyncio.sleep(1)
    cable.right.tcp = STALLED
    await asyncio.sleep(11)
    (detached,) = [event for event in t.at_agent if isinstance(event, Detached)]
    assert detached.fact == ev.StreamEnded(
        vantage=Vantage.AGENT,
        at=EPOCH + 10.0,
        peer=Party.CLIENT,
        how=StreamEnd.SILENT,
        silence_s=31.0,
        heard_ago_s=9.97,
    )
    counters = t.agent.last_counters(1)
    assert counters is not None and counters.unacked == 3
    with pytest.raises(StreamLost) as lost:
        await t.agent.recv()
    assert lost.value.counters_fact == counters


async def test_a_standby_that_ends_is_told_as_lost(t: Joined) -> None:
    t.relay(1)
    await asyncio.sleep(1)
    t.relay(2)
    await asyncio.sleep(1)
    t.cables[2].reset()
    await asyncio.sleep(1)
    assert isinstance(t.at_agent[-1], CarrierLost)
    assert t.agent.in_use == 1


async def test_many_carriers_are_forgotten(t: Joined) -> None:
    for number in range(1, 151):
        cable = t.relay(number)
        cable.left.tcp = dict(STALLED, last_ack_recv_ms=0)
        await asyncio.sleep(1)
        if number < 150:
            cable.reset()
            await asyncio.sleep(1)
    assert t.client.carrier(1) is None
    assert t.client.last_counters(1) is None
    assert t.client.last_counters(149) is not None
    assert t.client.in_use == 150


async def test_a_client_cannot_resume_without_the_key() -> None:
    clock = LoopClock()
    agent = resumable(Party.AGENT, clock, connection_id="c1")
    other = resumable(Party.CLIENT, clock, connection_id="c2")
    cable, events = Cable(), list[PathEvent]()
    other.listen(events.append)
    agent.add(relayed(1, cable.right))
    other.add(relayed(1, cable.left))
    await asyncio.sleep(1)
    assert events == [CarrierRefused(1, JoinRefused(code="bad_proof"))]
    for stream in (agent, other):
        await stream.close(1001, "")


# -- over real sockets ---------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_transfer_survives_the_loss_of_its_sockets_again_and_again() -> None:
    block, count = os.urandom(65_536), 256
    got = bytearray()
    t = Joined(SystemClock())
    tasks = Tasks("test")
    try:
        async with asyncio.timeout(30):
            serving = tasks.spawn(t.agent.serve(got.extend), "serve")
            _, right = await t.sockets(1)
            for number in range(2, 6):
                for _ in range(count):
                    await t.client.send(block)
                right._sock.shutdown(socket.SHUT_RDWR)  # most of it is still on the way
                while t.client.in_use or t.agent.in_use:
                    await asyncio.sleep(0)
                _, right = await t.sockets(number)
            while len(got) < 4 * count * len(block) or not t.agent.in_use:
                await asyncio.sleep(0.001)
            assert bytes(got) == block * (4 * count)
            assert len([event for event in t.at_agent if isinstance(event, Resumed)]) == 4
            serving.cancel()
    finally:
        await t.close()
