"""A tunnel's machine: attach, use, resume, give up; and peers that are no honest ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.support.clock import EPOCH, at
from tests.support.protocol.tunnels import KEY, TUNNEL, Pair, stream_end, untagged
from tether.attribution import evidence as ev
from tether.attribution.vocabulary import Party, StreamEnd, Vantage
from tether.protocol.tunnel.buffers import ACK_BYTES, ACK_S, FRAME_COST, WINDOW
from tether.protocol.tunnel.carrier import JOIN_S, MAX_CARRIERS, CarrierPhase
from tether.protocol.tunnel.events import (
    Answered,
    CarrierLost,
    CarrierRefused,
    CarrierUp,
    CloseCarrier,
    Detached,
    GaveUp,
    PeerLeft,
    Resumed,
    Used,
)
from tether.protocol.tunnel.frames import (
    MOVED,
    OVER,
    Acked,
    CarrierPing,
    CarrierPong,
    Numbered,
    Retired,
    SwitchTo,
    encode_carrier_frame,
    encode_opening,
    numbered_head,
    parse_carrier_frame,
)
from tether.protocol.tunnel.join import Join, JoinRefused, TunnelKey
from tether.protocol.tunnel.resume_policy import Waits
from tether.protocol.tunnel.tunnel import MAX_FRAME, Tunnel

DAY = 24 * 3600.0


# -- attaching ---------------------------------------------------------------------------


def test_a_carrier_is_up_when_both_ends_have_proven_themselves() -> None:
    pair = Pair()
    pair.open(1)
    pair.arrive(pair.agent, 1)
    assert pair.agent.events == [CarrierUp(1, None)]
    pair.seconds = 0.25
    pair.arrive(pair.client, 1)
    assert pair.client.events == [CarrierUp(1, 0.25)]
    assert pair.client.machine.carriers == {1: CarrierPhase.JOINED}


def test_nothing_is_sent_before_the_carrier_is_used() -> None:
    pair = Pair()
    pair.open(1)
    pair.settle()
    pair.send(pair.agent, b"motd")
    assert not pair.agent.streams[1].flying
    pair.use(1)
    pair.settle()
    assert pair.client.frames == [b"motd"]
    assert pair.client.last() == Used(1, 0, 0)
    assert pair.agent.last() == Used(1, 0, 0)


@pytest.mark.parametrize(
    ("attach", "code"),
    [
        (TunnelKey(bytes(32)).join(Party.CLIENT, TUNNEL, 1, 0), "bad_proof"),
        (KEY.join(Party.CLIENT, "d" * 32, 1, 0), "bad_proof"),
        (KEY.join(Party.AGENT, TUNNEL, 1, 0), "bad_proof"),
        (KEY.join(Party.CLIENT, TUNNEL, 2, 0), "bad_proof"),
        (KEY.join(Party.CLIENT, TUNNEL, 0, 0), "bad_proof"),
        (
            Join(
                connection_id=TUNNEL,
                carrier=1,
                party="client",
                received=5,
                proof=KEY.join(Party.CLIENT, TUNNEL, 1, 0).proof,
            ),
            "bad_proof",
        ),
    ],
    ids=["wrong key", "another tunnel", "our own party", "another number", "number 0", "altered"],
)
def test_an_attach_without_its_proof_is_refused(attach: Join, code: str) -> None:
    pair = Pair()
    pair.open(1)
    pair.perform(pair.agent, pair.agent.machine.received(1, encode_opening(attach), at(0)))
    assert pair.agent.events == [CarrierRefused(1, JoinRefused(code=code))]
    (closed,) = pair.agent.closed
    assert parse_carrier_frame(closed.last) == JoinRefused(code=code)
    # The number is still good for whoever can prove it.
    pair.agent.streams.clear()
    pair.open(2)
    pair.settle()
    assert pair.agent.machine.carriers == {2: CarrierPhase.JOINED}


def test_an_agent_that_proves_nothing_is_dismissed() -> None:
    pair = Pair(agent_key=TunnelKey(bytes(32)))
    pair.open(1)
    answer = TunnelKey(bytes(32)).join(Party.AGENT, TUNNEL, 1, 0)
    pair.perform(pair.client, pair.client.machine.received(1, encode_opening(answer), at(0)))
    assert pair.client.events == [CarrierRefused(1, JoinRefused(code="bad_proof"))]
    assert pair.client.closed == [CloseCarrier(1, 1008, "bad_proof")]


def test_a_number_is_good_once() -> None:
    pair = Pair().joined()
    pair.cut(1)
    replayed = KEY.join(Party.CLIENT, TUNNEL, 1, 0)
    assert pair.agent.machine.check_join(replayed) == JoinRefused(code="carrier_used")
    assert pair.agent.machine.opened(1, at(0)) == [
        CloseCarrier(1, 1008, "carrier 1 was used before")
    ]
    assert pair.client.machine.opened(1, at(0)) == [
        CloseCarrier(1, 1008, "carrier 1 was used before")
    ]


def test_a_direct_attach_is_judged_before_it_is_let_in() -> None:
    pair = Pair().joined()
    check = pair.agent.machine.check_join
    assert check(KEY.join(Party.CLIENT, TUNNEL, 2, 0)) is None
    assert check(TunnelKey(bytes(32)).join(Party.CLIENT, TUNNEL, 2, 0)) == JoinRefused(
        code="bad_proof"
    )
    pair.agent.machine.opened(2, at(0))
    assert check(KEY.join(Party.CLIENT, TUNNEL, 2, 0)) == JoinRefused(code="carrier_used")
    for number in range(3, MAX_CARRIERS + 1):
        pair.agent.machine.opened(number, at(0))
    assert check(KEY.join(Party.CLIENT, TUNNEL, 99, 0)) == JoinRefused(code="too_many_carriers")
    assert pair.agent.machine.opened(99, at(0)) == [CloseCarrier(99, 1008, "too many carriers")]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x09",
        numbered_head(1, 0) + b"x",
        encode_carrier_frame(CarrierPing(1)),
        encode_opening(JoinRefused(code="tunnel_unknown")),
    ],
    ids=["empty", "garbage", "data", "ping", "refusal"],
)
def test_what_comes_before_an_attach_harms_its_carrier_only(raw: bytes) -> None:
    pair = Pair().joined()
    pair.open(2)
    pair.perform(pair.agent, pair.agent.machine.received(2, raw, at(0)))
    assert pair.agent.last() == CarrierRefused(2, JoinRefused(code="not_attached"))
    pair.send(pair.client, b"still here")
    pair.settle()
    assert pair.agent.frames == [b"still here"]


def test_a_carrier_that_never_attaches_is_dropped() -> None:
    pair = Pair()
    pair.client.streams.clear()
    pair.perform(pair.agent, pair.agent.machine.opened(1, at(0)))
    assert pair.agent.machine.deadline() == JOIN_S
    pair.wait(JOIN_S)
    assert pair.agent.closed == [CloseCarrier(1, 1008, "not attached in time")]
    assert pair.agent.events == [CarrierRefused(1, JoinRefused(code="not_attached"))]
    assert pair.agent.machine.deadline() is None


def test_a_stream_that_ends_before_it_attached_is_no_loss() -> None:
    pair = Pair()
    pair.open(1)
    pair.cut(1)
    assert pair.client.events == [CarrierRefused(1, JoinRefused(code="not_attached"))]
    assert pair.client.machine.deadline() is None


def test_an_unproven_refusal_ends_its_carrier_only() -> None:
    pair = Pair()
    pair.open(1)
    refusal = JoinRefused(code="tunnel_over", cause="agent.shutdown")
    pair.perform(pair.client, pair.client.machine.received(1, encode_opening(refusal), at(0)))
    assert pair.client.events == [CarrierRefused(1, refusal)]
    assert not pair.client.machine.over


def test_a_proven_refusal_says_why_the_tunnel_is_over() -> None:
    pair = Pair()
    pair.open(1)
    refusal = KEY.refuse(
        JoinRefused(
            code="tunnel_over", cause="workspace.stopped", actor="user:bob", detail="lunch"
        ),
        TUNNEL,
        1,
    )
    pair.perform(pair.client, pair.client.machine.received(1, encode_opening(refusal), at(0)))
    said = ev.GoodbyeSaid(
        vantage=Vantage.CLIENT,
        at=EPOCH,
        by=Party.AGENT,
        cause="workspace.stopped",
        actor="user:bob",
        detail="lunch",
    )
    assert pair.client.events == [CarrierRefused(1, refusal, proven=True), GaveUp(said)]
    assert pair.client.machine.over


def test_another_refusal_that_is_proven_ends_its_carrier_only() -> None:
    pair = Pair()
    pair.open(1)
    refusal = KEY.refuse(JoinRefused(code="too_many_carriers"), TUNNEL, 1)
    pair.perform(pair.client, pair.client.machine.received(1, encode_opening(refusal), at(0)))
    assert pair.client.events == [CarrierRefused(1, refusal, proven=True)]


# -- frames ------------------------------------------------------------------------------


def test_frames_arrive_in_order_and_are_acknowledged_when_consumed() -> None:
    pair = Pair().joined()
    pair.agent.hold = True
    pair.send(pair.client, b"one", b"two")
    pair.settle()
    assert pair.agent.frames == [b"one", b"two"]
    pair.wait(1.0)
    pair.settle()
    assert pair.client.machine.unacked_bytes == 6 + 2 * FRAME_COST
    pair.take(pair.agent)
    assert pair.agent.machine.deadline() == 1.0 + ACK_S
    pair.wait(ACK_S)
    pair.settle()
    assert pair.client.machine.unacked_bytes == 0
    assert pair.agent.machine.deadline() is None


def test_data_carries_the_acknowledgement() -> None:
    pair = Pair().joined()
    pair.send(pair.client, b"ping")
    pair.settle()
    pair.send(pair.agent, b"pong")
    (raw,) = pair.agent.streams[1].flying
    frame = untagged(raw)
    assert isinstance(frame, Numbered) and (frame.number, frame.ack) == (1, 1)
    assert pair.agent.machine.deadline() is None


def test_much_data_is_acknowledged_at_once() -> None:
    pair = Pair().joined()
    pair.send(pair.client, *[bytes(64 << 10)] * 4)
    assert ACK_BYTES == 256 << 10
    pair.settle()
    assert pair.client.machine.unacked_bytes == 0


def test_a_writer_waits_when_the_window_is_full() -> None:
    pair = Pair().joined()
    pair.agent.hold = True
    while pair.client.machine.writable:
        pair.send(pair.client, bytes(MAX_FRAME))
    assert WINDOW <= pair.client.machine.unacked_bytes < WINDOW + MAX_FRAME + FRAME_COST
    assert pair.client.machine.unsent_bytes == 0
    with pytest.raises(BufferError):
        pair.client.machine.send(b"x")
    pair.settle()
    assert not pair.agent.machine.over
    pair.take(pair.agent)
    pair.pull(pair.agent)
    pair.settle()
    assert pair.client.machine.writable


def test_an_empty_frame_counts_too() -> None:
    pair = Pair(window=10 * FRAME_COST)
    for _ in range(10):
        pair.client.machine.send(b"")
    assert not pair.client.machine.writable


def test_pings_are_answered_on_their_carrier() -> None:
    pair = Pair().joined()
    pair.open(2)
    pair.settle()
    pair.client.machine.ping(2, at(0))
    pair.pull(pair.client)
    pair.arrive(pair.agent, 2)
    pair.seconds = 0.5
    pair.arrive(pair.client, 2)
    assert pair.client.last() == Answered(2, 0.5)
    pair.client.machine.ping(2, at(1))
    assert pair.hear(pair.client, 2, encode_carrier_frame(CarrierPong(1))) == []


def test_an_answer_that_nobody_asked_for_is_ignored() -> None:
    pair = Pair().joined()
    assert pair.hear(pair.client, 1, encode_carrier_frame(CarrierPong(7))) == []
    pair.client.machine.ping(5, at(0))  # there is no such carrier
    assert pair.client.machine.outgoing(5) is None


def test_a_flood_of_pings_leaves_one_answer_waiting() -> None:
    pair = Pair().joined()
    for nonce in range(1000):
        ping = pair.tagged(pair.agent, 1, encode_carrier_frame(CarrierPing(nonce)))
        pair.agent.machine.received(1, ping, at(0))
    assert untagged(pair.agent.machine.outgoing(1)) == CarrierPong(999)
    assert pair.agent.machine.outgoing(1) is None


# -- carriers change -----------------------------------------------------------------------


def test_another_carrier_takes_over_without_a_gap() -> None:
    pair = Pair().joined()
    pair.send(pair.client, b"one")
    pair.send(pair.agent, b"uno")
    pair.open(2)
    while pair.arrive(pair.agent, 2) or pair.arrive(pair.client, 2):
        pass
    pair.use(2)
    pair.send(pair.client, b"two")
    pair.settle()
    pair.send(pair.agent, b"due")
    pair.settle()
    assert pair.agent.frames == [b"one", b"two"]
    assert pair.client.frames == [b"uno", b"due"]
    assert pair.client.last() == Used(2, 1, 3 + FRAME_COST)
    assert pair.agent.last() == Used(2, 1, 3 + FRAME_COST)


def test_a_use_that_comes_late_is_no_use() -> None:
    pair = Pair().joined()
    pair.open(2)
    pair.settle()
    pair.use(2)
    pair.use(1)
    pair.arrive(pair.agent, 1)
    pair.settle()
    assert (pair.client.machine.in_use, pair.agent.machine.in_use) == (1, 1)


def test_using_the_carrier_in_use_or_none_is_a_no_op() -> None:
    pair = Pair().joined()
    pair.open(2)
    assert [pair.client.machine.use(number, at(0)) for number in (1, 2, 3)] == [[], [], []]


def test_what_was_on_the_way_is_sent_again() -> None:
    pair = Pair().joined()
    pair.send(pair.client, b"lost")
    pair.send(pair.agent, b"perso")
    pair.cut(1, StreamEnd.SILENT)
    assert pair.client.last() == Detached(
        1, stream_end(Party.AGENT, StreamEnd.SILENT, vantage=Vantage.CLIENT), DAY
    )
    pair.send(pair.client, b"meanwhile")
    pair.wait(60.0)
    pair.open(2)
    pair.settle()
    pair.use(2)
    pair.settle()
    assert pair.agent.frames == [b"lost", b"meanwhile"]
    assert pair.client.frames == [b"perso"]
    assert pair.client.last() == Resumed(2, 60.0, 4 + FRAME_COST)
    assert pair.agent.last() == Resumed(2, 60.0, 5 + FRAME_COST)
    assert pair.client.machine.detached_at is None


def test_a_gap_that_only_the_client_noticed_is_told_to_the_agent_once() -> None:
    """A proxy's kernel answers the agent's for a client that is cut off."""
    pair = Pair().joined()
    silent = replace(
        stream_end(Party.AGENT, StreamEnd.SILENT, vantage=Vantage.CLIENT), silence_s=25.0
    )
    pair.client.streams.pop(1)
    pair.perform(pair.client, pair.client.machine.ended(1, silent, at(0)))
    pair.wait(13.0)
    for number in (2, 3):
        pair.open(number)
        pair.settle()
    assert pair.agent.machine.in_use == 1
    pair.use(2)
    pair.settle()
    assert (pair.client.last(), pair.agent.last()) == (Resumed(2, 13.0, 0), Resumed(2, 38.0, 0))
    pair.use(3)
    pair.settle()
    assert (pair.client.last(), pair.agent.last()) == (Used(3, 2, 0), Used(3, 2, 0))


def test_a_standby_that_ends_is_lost_and_a_retired_one_is_not() -> None:
    pair = Pair().joined()
    for number in (2, 3):
        pair.open(number)
    pair.settle()
    pair.cut(2)
    lost = stream_end(Party.CLIENT, StreamEnd.EOF)
    assert pair.agent.last() == CarrierLost(2, lost)
    pair.client.machine.retire(3)
    assert pair.client.machine.ours_to_close == []
    pair.pull(pair.client)
    assert pair.client.machine.ours_to_close == [3]
    pair.settle()
    assert pair.agent.machine.carriers[3] is CarrierPhase.RELEASED
    before = list(pair.agent.events)
    pair.cut(3)
    assert pair.agent.events == before
    pair.client.machine.retire(1)  # the one in use, or one that is gone, is not to be retired
    pair.client.machine.retire(3)
    assert pair.client.machine.outgoing(1) is None


def test_the_carrier_that_was_left_is_retired_when_the_agent_has_followed() -> None:
    pair = Pair().joined()
    pair.open(2)
    pair.settle()
    pair.use(2)
    pair.client.machine.retire(1)
    assert pair.client.machine.outgoing(1) is None
    assert pair.client.machine.carriers[1] is CarrierPhase.RETIRING
    pair.settle()
    assert pair.client.machine.ours_to_close == [1]
    pair.cut(1)
    assert pair.agent.saw(Detached) == pair.agent.saw(CarrierLost) == []


def test_a_carrier_that_is_used_again_is_not_retired_after_all() -> None:
    pair = Pair().joined()
    pair.open(2)
    pair.settle()
    pair.use(2)
    pair.client.machine.retire(1)
    pair.use(1)
    pair.settle()
    assert pair.agent.machine.in_use == 1
    assert pair.client.machine.carriers[1] is CarrierPhase.JOINED


def test_a_carrier_to_be_retired_may_end_before() -> None:
    pair = Pair().joined()
    pair.open(2)
    pair.settle()
    pair.use(2)
    pair.client.machine.retire(1)
    pair.cut(1, ends=(pair.client,))
    pair.settle()
    assert pair.client.machine.ours_to_close == []
    assert pair.agent.machine.in_use == 2


def test_a_carrier_that_the_agent_does_not_use_yet_is_not_retired_because_it_sends_on_another() -> (
    None
):
    pair = Pair()
    pair.open(1)
    pair.open(2)
    pair.settle()
    pair.use(1)
    pair.use(2)
    pair.client.machine.retire(1)
    pair.arrive(pair.agent, 1)  # the first use, and nothing of the second one
    pair.send(pair.agent, b"on the first")
    pair.arrive(pair.client, 1)
    assert pair.client.machine.carriers[1] is CarrierPhase.RETIRING
    pair.settle()
    assert pair.client.machine.ours_to_close == [1]
    assert pair.client.frames == [b"on the first"]


def test_a_carrier_that_is_not_wanted_any_more_may_join_too_late() -> None:
    pair = Pair().joined()
    pair.open(2)
    pair.client.machine.retire(2)
    pair.client.machine.retire(2)
    pair.pull(pair.client)
    assert pair.client.machine.ours_to_close == [2]
    pair.settle()
    assert pair.agent.machine.carriers[2] is CarrierPhase.RELEASED
    assert pair.client.machine.carriers[2] is CarrierPhase.UNWANTED
    assert pair.client.saw(CarrierUp) == [CarrierUp(1, 0.0)]
    pair.cut(2)
    assert pair.agent.saw(CarrierLost) == pair.client.saw(CarrierLost) == []


def test_the_agents_carrier_is_retired_at_once() -> None:
    pair = Pair().joined()
    pair.open(2)
    pair.settle()
    pair.agent.machine.retire(2)
    pair.pull(pair.agent)
    pair.settle()
    pair.cut(2)
    assert pair.client.saw(CarrierLost) == []


# -- giving up -------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(1, 2), (2, 1)], ids=["fin first", "fin last"])
def test_a_fin_of_the_peer_counts_whichever_carrier_ends_last(order: tuple[int, int]) -> None:
    pair = Pair().joined()
    pair.open(2)
    pair.settle()
    ends = {1: (Party.CLIENT, StreamEnd.EOF), 2: (Party.RELAY, StreamEnd.EOF)}
    for number in order:
        peer, how = ends[number]
        pair.cut(number, how, ends=(pair.agent,), peer=peer)
    pair.wait(14.9)
    assert pair.agent.saw(GaveUp) == []
    pair.wait(0.2)
    assert pair.agent.last() == GaveUp(stream_end(Party.CLIENT, StreamEnd.EOF))


def test_a_fin_of_one_carrier_tells_nothing_of_a_peer_that_was_heard_on_another_since() -> None:
    pair = Pair().joined()
    pair.open(2)
    pair.settle()
    pair.cut(1, StreamEnd.EOF, ends=(pair.agent,), peer=Party.CLIENT)
    pair.client.machine.ping(2, at(0))
    pair.pull(pair.client)
    pair.settle()
    pair.cut(2, StreamEnd.EOF, ends=(pair.agent,), peer=Party.RELAY)
    pair.wait(3600.0)
    assert pair.agent.saw(GaveUp) == []


@pytest.mark.parametrize(
    ("how", "peer", "seconds"),
    [
        (StreamEnd.EOF, Party.CLIENT, 15.0),
        (StreamEnd.RESET, Party.CLIENT, DAY),
        (StreamEnd.EOF, Party.RELAY, DAY),
        (StreamEnd.SILENT, Party.CLIENT, DAY),
        (StreamEnd.TIMED_OUT, Party.RELAY, DAY),
    ],
)
def test_a_detached_tunnel_is_given_up_in_its_time(
    how: StreamEnd, peer: Party, seconds: float
) -> None:
    pair = Pair().joined()
    pair.cut(1, how, ends=(pair.agent,), peer=peer)
    fact = stream_end(peer, how)
    assert pair.agent.last() == Detached(1, fact, seconds)
    pair.wait(seconds - 0.001)
    assert pair.agent.saw(GaveUp) == []
    pair.wait(0.001)
    if (peer, how) == (Party.RELAY, StreamEnd.EOF):  # it began the wait, and did not end the tunnel
        assert pair.agent.last() == GaveUp(
            ev.NeverReturned(
                vantage=Vantage.AGENT, at=EPOCH + seconds, party=Party.CLIENT, waited_s=seconds
            )
        )
    else:
        assert pair.agent.last() == GaveUp(fact)
    assert pair.agent.machine.over
    assert pair.agent.machine.deadline() is None


def test_the_waits_are_settings() -> None:
    pair = Pair(waits=Waits(vanished_s=1.0, policy_s=10.0)).joined()
    pair.cut(1, StreamEnd.SILENT)
    pair.wait(10.0)
    assert pair.agent.machine.over and pair.client.machine.over


@pytest.mark.parametrize(
    ("how", "over"), [(StreamEnd.EOF, True), (StreamEnd.RESET, True), (StreamEnd.SILENT, False)]
)
def test_a_peer_that_the_server_has_lost_too_is_waited_for_only_if_it_may_sleep(
    how: StreamEnd, over: bool
) -> None:
    pair = Pair().joined()
    pair.perform(pair.agent, pair.agent.machine.peer_is_gone())
    assert not pair.agent.machine.over, "its carrier lives"
    pair.cut(1, how, ends=(pair.agent,))
    pair.perform(pair.agent, pair.agent.machine.peer_is_gone())
    assert pair.agent.machine.over is over
    assert pair.agent.saw(GaveUp) == [GaveUp(stream_end(Party.CLIENT, how))] * over
    assert pair.agent.machine.peer_is_gone() == []


def test_while_another_carrier_is_up_the_tunnel_waits_for_it_to_be_used() -> None:
    pair = Pair().joined()
    pair.open(2)
    pair.settle()
    pair.cut(1)
    assert pair.agent.last() == Detached(1, stream_end(Party.CLIENT, StreamEnd.EOF), None)
    pair.wait(60.0)
    assert not pair.agent.machine.over
    pair.cut(2)
    pair.wait(15.0)
    lost = stream_end(Party.CLIENT, StreamEnd.EOF, seconds=60.0)
    assert pair.agent.events[-2:] == [CarrierLost(2, lost), GaveUp(lost)]


def test_a_carrier_that_attaches_stops_the_clock() -> None:
    pair = Pair().joined()
    pair.cut(1)
    pair.wait(14.0)
    pair.open(2)
    pair.settle()
    pair.wait(60.0)
    pair.use(2)
    pair.settle()
    assert pair.agent.last() == Resumed(2, 74.0, 0)


def test_a_carrier_that_was_never_used_ends_a_tunnel_too() -> None:
    pair = Pair()
    pair.open(1)
    pair.settle()
    pair.cut(1)
    pair.wait(15.0)
    assert pair.agent.machine.over


def test_all_carriers_are_closed_when_the_tunnel_is_given_up() -> None:
    pair = Pair().joined()
    pair.cut(1)
    pair.wait(14.0)
    pair.open(2)
    pair.client.streams[2].cut = True
    pair.wait(1.0)
    assert pair.agent.closed == [CloseCarrier(2, 1000, "not resumed in time")]


def test_who_leaves_says_so_after_the_last_frame() -> None:
    pair = Pair().joined()
    pair.open(2)
    pair.settle()
    pair.send(pair.agent, b"bye")
    pair.agent.machine.leave()
    pair.pull(pair.agent)
    assert pair.agent.machine.flushed
    assert [untagged(raw) for raw in pair.agent.streams[2].flying] == [Retired(MOVED)]
    pair.settle()
    assert pair.client.frames == [b"bye"]
    assert pair.client.last() == PeerLeft()
    assert pair.client.machine.over
    assert pair.client.closed == [
        CloseCarrier(number, 1000, "the other end has left") for number in (1, 2)
    ]


def test_who_leaves_while_detached_says_so_on_whatever_is_up() -> None:
    pair = Pair()
    pair.open(1)
    pair.settle()
    pair.open(2)
    pair.client.machine.leave()
    pair.pull(pair.client)
    pair.settle()
    assert pair.agent.last() == PeerLeft()


def test_what_comes_after_the_end_is_ignored() -> None:
    pair = Pair().joined()
    machine = pair.agent.machine
    pair.cut(1, ends=(pair.agent,))
    pair.wait(15.0)
    machine.send(b"x")
    assert machine.opened(2, at(20)) == [CloseCarrier(2, 1001, "the tunnel is over")]
    assert machine.outgoing(1) is None
    assert machine.received(1, b"\x09", at(20)) == []
    assert machine.ended(1, stream_end(Party.CLIENT, StreamEnd.EOF), at(20)) == []
    assert machine.tick(at(99)) == []
    assert machine.use(1, at(20)) == []


# -- peers that are no honest ones -------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        (numbered_head(3, 0) + b"x", "sent frame 3 after frame 1"),
        (numbered_head(2, 9) + b"x", "acknowledged frame 9 of 1"),
        (encode_carrier_frame(Acked(9)), "acknowledged frame 9 of 1"),
        (encode_carrier_frame(SwitchTo(5, 9)), "acknowledged frame 9 of 1"),
        (b"\x09", "a carrier frame of unknown kind 9"),
        (encode_opening(KEY.join(Party.CLIENT, TUNNEL, 9, 0)), "a carrier's Join out of place"),
        (encode_opening(JoinRefused(code="x")), "a carrier's JoinRefused out of place"),
    ],
    ids=["gap", "future ack", "future bare ack", "future use", "garbage", "attach", "refusal"],
)
def test_a_peer_that_breaks_the_protocol_ends_the_tunnel(raw: bytes, what: str) -> None:
    pair = Pair().joined()
    pair.send(pair.client, b"one")
    pair.send(pair.agent, b"uno")
    pair.settle()
    pair.hear(pair.agent, 1, raw)
    assert pair.agent.last() == GaveUp(
        ev.ProtocolViolated(vantage=Vantage.AGENT, at=EPOCH, by=Party.CLIENT, what=what)
    )
    assert pair.agent.closed == [CloseCarrier(1, 1002, what)]


def test_only_the_client_says_which_carrier_is_used() -> None:
    pair = Pair().joined()
    pair.hear(pair.client, 1, encode_carrier_frame(SwitchTo(9, 0)))
    assert isinstance(pair.client.events[-1], GaveUp)


def test_an_attach_that_acknowledges_the_future_ends_the_tunnel() -> None:
    pair = Pair()
    pair.open(1)
    attach = encode_opening(KEY.join(Party.CLIENT, TUNNEL, 1, 4))
    pair.perform(pair.agent, pair.agent.machine.received(1, attach, at(0)))
    assert isinstance(pair.agent.events[-1], GaveUp)


def test_old_acknowledgements_and_old_frames_say_nothing() -> None:
    pair = Pair().joined()
    pair.send(pair.client, b"one", b"two")
    pair.send(pair.agent, b"uno", b"due")
    pair.settle()
    for raw in (numbered_head(1, 1) + b"one", encode_carrier_frame(Acked(0))):
        assert pair.hear(pair.agent, 1, raw) == []
    assert pair.agent.frames == [b"one", b"two"]


def test_a_peer_that_never_acknowledges_costs_one_window() -> None:
    pair = Pair(window=100_000).joined()
    for _ in range(1000):
        if pair.agent.machine.writable:
            pair.agent.machine.send(bytes(1000))
    assert pair.agent.machine.unacked_bytes < 100_000 + 1000 + FRAME_COST


def test_a_peer_that_sends_beyond_the_window_ends_the_tunnel() -> None:
    pair = Pair(window=100_000).joined()
    pair.agent.hold = True
    for number in range(1, 1000):
        if not pair.agent.machine.over:
            pair.hear(pair.agent, 1, numbered_head(number, 0) + bytes(10_000))
    assert pair.agent.saw(GaveUp) == [
        GaveUp(
            ev.ProtocolViolated(
                vantage=Vantage.AGENT,
                at=EPOCH,
                by=Party.CLIENT,
                what="sent more than it may before an acknowledgement",
            )
        )
    ]
    assert len(pair.agent.frames) < 40


@pytest.mark.parametrize("make", [lambda: Pair().client.machine, lambda: Pair().agent.machine])
def test_no_key_and_no_proof_is_ever_printed(make: Callable[[], Tunnel]) -> None:
    machine = make()
    secret = KEY.join(Party.CLIENT, TUNNEL, 1, 0)
    told = repr((machine, vars(machine), KEY, secret, KEY.refuse(JoinRefused(code="x"), TUNNEL, 1)))
    for hidden in (bytes(range(32)), secret.proof):
        assert repr(hidden)[2:20] not in told


def test_a_tunnel_that_left_has_words_for_the_peer_only_once() -> None:
    pair = Pair().joined()
    pair.agent.machine.leave()
    assert untagged(pair.agent.machine.outgoing(1)) == Retired(OVER)
    assert pair.agent.machine.outgoing(1) is None
