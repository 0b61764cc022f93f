"""Two tunnels over carriers that delay, cross and end: frames come out once and in order."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.support.clock import at
from tests.support.protocol.tunnels import KEY, TUNNEL, End, Pair, Wire
from tether.attribution.vocabulary import Party, StreamEnd
from tether.protocol.messages.base import Garbage
from tether.protocol.messages.codec import MAX_TUNNEL_FRAME
from tether.protocol.tunnel.buffers import FRAME_COST
from tether.protocol.tunnel.carrier import MAX_CARRIERS
from tether.protocol.tunnel.events import GaveUp, PeerLeft
from tether.protocol.tunnel.frames import (
    Acked,
    CarrierPing,
    CarrierPong,
    Retired,
    SwitchTo,
    encode_carrier_frame,
    encode_opening,
    numbered_head,
    parse_carrier_frame,
)
from tether.protocol.tunnel.join import JoinRefused, TunnelKey
from tether.protocol.tunnel.resume_policy import Waits

sides = st.integers(0, 1)
WINDOW = 2000
LARGEST = 300


class TwoTunnels(RuleBasedStateMachine):
    """See the module's first line."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair(window=WINDOW, waits=Waits(vanished_s=15.0, policy_s=300.0))
        self.number = 0
        self.sent: tuple[list[bytes], list[bytes]] = ([], [])

    @property
    def numbers(self) -> list[int]:
        return sorted({*self.pair.client.streams, *self.pair.agent.streams})

    @precondition(lambda self: len(self.numbers) < MAX_CARRIERS)
    @rule()
    def open(self) -> None:
        self.number += 1
        self.pair.open(self.number)

    @precondition(lambda self: self.numbers)
    @rule(side=sides, data=st.data())
    def arrive(self, side: int, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(self.numbers))
        self.pair.arrive(self.pair.ends[side], number)

    @rule()
    def everything_arrives(self) -> None:
        self.pair.settle()

    @precondition(lambda self: self.numbers)
    @rule(data=st.data(), how=st.sampled_from(StreamEnd), relay=st.booleans(), side=sides)
    def a_carrier_ends(self, data: st.DataObject, how: StreamEnd, relay: bool, side: int) -> None:
        """One end notices; the other one may go on for a while."""
        number = data.draw(st.sampled_from(self.numbers))
        end = self.pair.ends[side]
        self.pair.cut(number, how, ends=(end,), peer=Party.RELAY if relay else None)

    @precondition(lambda self: self.numbers)
    @rule(data=st.data())
    def use(self, data: st.DataObject) -> None:
        self.pair.use(data.draw(st.sampled_from(self.numbers)))

    @precondition(lambda self: self.numbers)
    @rule(data=st.data(), side=sides)
    def retire(self, data: st.DataObject, side: int) -> None:
        end = self.pair.ends[side]
        end.machine.retire(data.draw(st.sampled_from(self.numbers)))
        self.pair.pull(end)

    @precondition(lambda self: self.numbers)
    @rule(data=st.data())
    def ping(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(self.numbers))
        self.pair.client.machine.ping(number, at(self.pair.seconds))
        self.pair.pull(self.pair.client)

    @rule(side=sides, size=st.integers(0, LARGEST), pull=st.booleans())
    def send(self, side: int, size: int, pull: bool) -> None:
        end = self.pair.ends[side]
        if end.machine.writable and not end.machine.over:
            frame = len(self.sent[side]).to_bytes(4, "big") + bytes(size)
            self.sent[side].append(frame)
            end.machine.send(frame)
            if pull:
                self.pair.pull(end)

    @rule(side=sides, hold=st.booleans())
    def consume(self, side: int, hold: bool) -> None:
        end = self.pair.ends[side]
        end.hold = hold
        if not hold:
            self.pair.take(end)
            self.pair.pull(end)

    @rule(seconds=st.sampled_from([0.05, 0.1, 1.0, 14.0]))
    def time_passes(self, seconds: float) -> None:
        self.pair.wait(seconds)

    @invariant()
    def frames_come_out_once_and_in_order(self) -> None:
        for side in (0, 1):
            got = self.pair.ends[1 - side].frames
            assert got == self.sent[side][: len(got)]

    @invariant()
    def memory_is_bounded(self) -> None:
        for end in self.pair.ends:
            assert end.machine.unacked_bytes < WINDOW + LARGEST + 4 + FRAME_COST
            assert 0 <= end.machine.unsent_bytes <= end.machine.unacked_bytes
            assert len(end.machine.carriers) <= MAX_CARRIERS

    @invariant()
    def honest_ends_never_break_the_protocol(self) -> None:
        for end in self.pair.ends:
            for event in end.saw(GaveUp):
                assert isinstance(event, GaveUp)
                assert event.fact.kind == "stream_ended"

    @invariant()
    def no_deadline_is_in_the_past(self) -> None:
        for end in self.pair.ends:
            deadline = end.machine.deadline()
            assert deadline is None or deadline > self.pair.seconds - 1e-9

    def teardown(self) -> None:
        """With one good carrier in the end, everything is there; or the tunnel was given up."""
        pair = self.pair
        for end in pair.ends:
            end.hold = False
            pair.take(end)
            pair.pull(end)
        if pair.client.machine.over or pair.agent.machine.over:
            return
        for number in self.numbers:
            pair.cut(number, StreamEnd.SILENT)
        self.number += 1
        pair.joined(self.number)
        for _ in range(5):
            pair.settle()
            pair.wait(0.2)
        for side in (0, 1):
            assert pair.ends[1 - side].frames == self.sent[side]
            assert pair.ends[side].machine.unacked_bytes == 0


TestTwoTunnels = TwoTunnels.TestCase
TestTwoTunnels.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


# -- hostile peers -------------------------------------------------------------------------

numbers = st.integers(0, 20) | st.integers(0, 2**64 - 1)
hostile = st.one_of(
    st.builds(lambda n, a, b: numbered_head(n, a) + b, numbers, numbers, st.binary(max_size=50)),
    st.builds(lambda a: encode_carrier_frame(Acked(a)), numbers),
    st.builds(lambda t, a: encode_carrier_frame(SwitchTo(t, a)), numbers, numbers),
    st.builds(lambda n: encode_carrier_frame(CarrierPing(n)), numbers),
    st.builds(lambda n: encode_carrier_frame(CarrierPong(n)), numbers),
    st.sampled_from([encode_carrier_frame(Retired(word)) for word in ("moved", "over", "x")]),
    st.builds(
        lambda key, party, tunnel, n, r: encode_opening(key.join(party, tunnel, n, r)),
        st.sampled_from([KEY, TunnelKey(bytes(32))]),
        st.sampled_from(Party),
        st.sampled_from([TUNNEL, "d" * 32]),
        numbers,
        numbers,
    ),
    st.just(encode_opening(JoinRefused(code="tunnel_over", cause="agent.shutdown"))),
    st.binary(max_size=60),
)


@given(
    st.booleans(),
    st.lists(st.tuples(st.integers(1, 3), hostile, st.integers(0, 2), st.booleans()), max_size=30),
)
@settings(max_examples=300, deadline=None)
def test_a_hostile_peer_ends_in_order_or_does_nothing(
    joined: bool, said: list[tuple[int, bytes, int, bool]]
) -> None:
    """Some of it is said by one that has the key, the rest by somebody on the way."""
    pair = Pair(window=WINDOW)
    if joined:
        pair.joined(1)
    agent: End = pair.agent
    for number in (1, 2, 3):
        if number not in agent.streams:
            agent.streams[number] = Wire()
            pair.perform(agent, agent.machine.opened(number, at(0)))
    for number, raw, frames, has_key in said:
        if has_key and agent.machine.carriers.get(number) and number in pair.client.streams:
            pair.hear(agent, number, raw)
        else:
            pair.meddle(agent, number, raw)
        for _ in range(frames):
            if agent.machine.writable:
                pair.send(agent, bytes(100))
    ends = [event for event in agent.events if isinstance(event, GaveUp | PeerLeft)]
    assert len(ends) == int(agent.machine.over)
    assert not ends or agent.events[-1] is ends[0]
    assert agent.machine.unacked_bytes < WINDOW + 100 + FRAME_COST


@given(st.binary(max_size=200) | hostile)
def test_bytes_from_anywhere_are_a_carrier_frame_or_garbage(raw: bytes) -> None:
    try:
        parse_carrier_frame(raw)
    except Garbage:
        pass


def test_the_largest_carrier_frame_is_a_relays() -> None:
    with pytest.raises(Garbage, match=r"^a carrier frame of 262145 bytes$"):
        parse_carrier_frame(bytes(MAX_TUNNEL_FRAME + 1))
