"""Somebody sits on a carrier's way, without the tunnel's key: a carrier is lost, never the tunnel."""

from __future__ import annotations

import pytest

from tests.support.clock import EPOCH, at
from tests.support.protocol.tunnels import KEY, TUNNEL, End, Pair
from tether.attribution import evidence as ev
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import Party, StreamEnd, Vantage
from tether.protocol.tunnel.carrier import FORGED, FORGED_CODE, MAX_FORGED
from tether.protocol.tunnel.events import CarrierLost, CloseCarrier, Detached, GaveUp, Resumed
from tether.protocol.tunnel.frames import (
    MOVED,
    OVER,
    Acked,
    CarrierPing,
    CarrierPong,
    Retired,
    SwitchTo,
    encode_carrier_frame,
    encode_opening,
    numbered_head,
)
from tether.protocol.tunnel.mac import TAG_BYTES, FrameTags

DAY = 24 * 3600.0

MADE_UP = [
    numbered_head(1, 0) + b"\x00data",
    numbered_head(1, 0) + b"\x01message",
    encode_carrier_frame(Acked(0)),
    encode_carrier_frame(Acked(99)),
    encode_carrier_frame(SwitchTo(9, 0)),
    encode_carrier_frame(CarrierPing(1)),
    encode_carrier_frame(CarrierPong(1)),
    encode_carrier_frame(Retired(MOVED)),
    encode_carrier_frame(Retired(OVER)),
    encode_opening(KEY.join(Party.CLIENT, TUNNEL, 1, 0)),
    b"\x09",
    b"",
]


def meddled(end: End, seconds: float = 0.0) -> Evidence:
    vantage = Vantage(str(end.machine.me))
    return ev.ProtocolViolated(vantage=vantage, at=EPOCH + seconds, by=Party.RELAY, what=FORGED)


def resumes(pair: Pair, number: int) -> None:
    """What was sent meanwhile arrives by another carrier, in both directions."""
    for end in pair.ends:
        if 1 in end.streams:
            pair.cut(1, StreamEnd.CLOSED, ends=(end,), peer=Party.RELAY)
    pair.send(pair.client, b"\x00hello")
    pair.send(pair.agent, b"\x00hallo")
    pair.open(number, relayed=True)
    pair.settle()
    pair.use(number)
    pair.settle()
    assert isinstance(pair.client.last(), Resumed)
    assert (pair.agent.frames[-1], pair.client.frames[-1]) == (b"\x00hello", b"\x00hallo")


@pytest.mark.parametrize(
    "tag", [b"", bytes(TAG_BYTES)], ids=["without a tag", "with a made up tag"]
)
@pytest.mark.parametrize("raw", MADE_UP, ids=lambda raw: raw[:1].hex() + f"+{len(raw)}")
@pytest.mark.parametrize("side", [0, 1], ids=["client", "agent"])
def test_a_frame_that_is_made_up_costs_its_carrier(side: int, raw: bytes, tag: bytes) -> None:
    pair = Pair().joined(relayed=True)
    end = pair.ends[side]
    pair.meddle(end, 1, tag + raw)
    assert end.closed == [CloseCarrier(1, FORGED_CODE, FORGED)]
    assert end.last() == Detached(1, meddled(end), DAY)
    assert not end.machine.over and end.frames == []
    resumes(pair, 2)


def test_on_a_direct_carrier_nobody_can_say_who_it_was() -> None:
    pair = Pair().joined()
    pair.meddle(pair.agent, 1, b"\x06over")
    failed = ev.StreamEnded(
        vantage=Vantage.AGENT, at=EPOCH, peer=Party.CLIENT, how=StreamEnd.OTHER, errno="EBADMSG"
    )
    assert pair.agent.last() == Detached(1, failed, DAY)
    resumes(pair, 2)


def fly(pair: Pair, *frames: bytes) -> list[bytes]:
    """What the client sends, taken off the way."""
    pair.send(pair.client, *frames)
    flying = pair.client.streams[1].flying
    taken = list(flying)
    flying.clear()
    return taken


def test_a_true_frame_that_comes_twice_costs_its_carrier() -> None:
    pair = Pair().joined(relayed=True)
    (raw,) = fly(pair, b"\x00once")
    pair.meddle(pair.agent, 1, raw)
    pair.meddle(pair.agent, 1, raw)
    assert pair.agent.frames == [b"\x00once"]
    assert pair.agent.last() == Detached(1, meddled(pair.agent), DAY)


def test_a_true_frame_that_is_left_out_is_missed_with_the_next() -> None:
    pair = Pair().joined(relayed=True)
    fly(pair, b"\x00left out")
    (raw,) = fly(pair, b"\x00next")
    pair.meddle(pair.agent, 1, raw)
    assert pair.agent.frames == []
    assert pair.agent.last() == Detached(1, meddled(pair.agent), DAY)


def test_a_true_frame_is_no_frame_of_another_carrier_nor_of_the_other_direction() -> None:
    for back in (False, True):
        pair = Pair().joined(relayed=True)
        pair.open(2, relayed=True)
        pair.settle()
        (raw,) = fly(pair, b"\x00hello")
        end, number = (pair.client, 1) if back else (pair.agent, 2)
        pair.meddle(end, number, raw)
        assert end.closed == [CloseCarrier(number, FORGED_CODE, FORGED)]
        assert end.frames == []


@pytest.mark.parametrize("place", range(TAG_BYTES + 17 + 6))
def test_no_bit_of_a_frame_can_be_altered_by_a_relay(place: int) -> None:
    pair = Pair().joined(relayed=True)
    (raw,) = fly(pair, b"\x00hello")
    pair.meddle(pair.agent, 1, raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
    assert pair.agent.frames == []
    assert pair.agent.last() == Detached(1, meddled(pair.agent), DAY)


def test_of_data_on_a_direct_carrier_only_the_bytes_are_left_to_ssh() -> None:
    """The head, the kind and the size are covered; of a message, all of it is."""
    head = numbered_head(1, 0)
    for body, other, covered in (
        (b"\x00hello", b"\x00hallo", False),
        (b"\x00hello", b"\x01hello", True),
        (b"\x00hello", b"\x00hello!", True),
        (b"\x00hello", b"\x00hell", True),
        (b"\x01hello", b"\x01hallo", True),
    ):
        ours, theirs = (FrameTags(bytes(32), data_too=False) for _ in range(2))
        checked = theirs.checked(ours.tag(head, body) + head + other)
        assert checked == (None if covered else head + other)


def test_who_meddles_with_every_carrier_ends_the_tunnel_in_the_end() -> None:
    pair = Pair().joined(relayed=True)
    for number in range(1, MAX_FORGED):
        pair.meddle(pair.agent, number, b"\x09")
        assert not pair.agent.machine.over
        pair.cut(number, ends=(pair.client,))
        pair.open(number + 1, relayed=True)
        pair.settle()
    pair.meddle(pair.agent, MAX_FORGED, b"\x09")
    assert pair.agent.last() == GaveUp(meddled(pair.agent))
    assert pair.agent.machine.over and pair.agent.machine.deadline() is None


def test_a_tunnel_that_gets_on_all_the_same_does_not_end() -> None:
    pair = Pair().joined(relayed=True)
    for number in range(1, 3 * MAX_FORGED):
        pair.send(pair.client, b"\x00one more")
        pair.settle()
        pair.meddle(pair.agent, number, b"\x09")
        pair.cut(number, ends=(pair.client,))
        pair.joined(number + 1, relayed=True)
    assert not pair.agent.machine.over
    assert len(pair.agent.frames) == 3 * MAX_FORGED - 1


def test_a_relay_cannot_end_a_tunnel_that_goes_another_way() -> None:
    pair = Pair().joined()
    for number in range(2, 3 * MAX_FORGED):
        pair.open(number, relayed=True)
        pair.settle()
        pair.meddle(pair.agent, number, b"\x06over")
        assert pair.agent.last() == CarrierLost(number, meddled(pair.agent))
        pair.cut(number, ends=(pair.client,))
    pair.send(pair.client, b"\x00still here")
    pair.settle()
    assert pair.agent.frames == [b"\x00still here"]


def test_a_peer_that_left_a_carrier_for_a_forgery_is_waited_for() -> None:
    pair = Pair().joined(relayed=True)
    left = ev.StreamEnded(
        vantage=Vantage.RELAY,
        at=EPOCH,
        peer=Party.AGENT,
        how=StreamEnd.CLOSED,
        close_code=FORGED_CODE,
    )
    pair.perform(pair.client, pair.client.machine.ended(1, left, at(0)))
    assert pair.client.last() == Detached(1, left, DAY)


def test_no_key_of_frames_is_ever_printed() -> None:
    pair = Pair().joined(relayed=True)
    told = repr(vars(pair.agent.machine))
    assert repr(KEY.of_frames(Party.CLIENT, TUNNEL, 1))[2:20] not in told
    assert "FrameTags(…)" in told
