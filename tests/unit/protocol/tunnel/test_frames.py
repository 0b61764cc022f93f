"""The frames of a tunnel, byte by byte: of carriers, and what numbered ones hold."""

from __future__ import annotations

import pytest
from hypothesis import example, given, strategies as st

from tests.support.protocol.messages import messages
from tether.attribution.vocabulary import Party
from tether.protocol.messages.base import Garbage, Message
from tether.protocol.messages.codec import MAX_TUNNEL_FRAME, TUNNEL_CHUNK
from tether.protocol.messages.tunnel import HalfClose
from tether.protocol.tunnel.frames import (
    MAX_OPENING,
    Acked,
    CarrierFrame,
    CarrierPing,
    CarrierPong,
    Numbered,
    Retired,
    SwitchTo,
    control_frame,
    data_frames,
    encode_carrier_frame,
    encode_opening,
    numbered_head,
    parse_carrier_frame,
    parse_frame,
)
from tether.protocol.tunnel.join import Join, JoinRefused, TunnelKey
from tether.protocol.tunnel.mac import FrameTags


@pytest.mark.parametrize(
    ("length", "sizes"),
    [
        (0, []),
        (1, [1]),
        (TUNNEL_CHUNK, [TUNNEL_CHUNK]),
        (TUNNEL_CHUNK + 1, [TUNNEL_CHUNK, 1]),
        (3 * TUNNEL_CHUNK, [TUNNEL_CHUNK] * 3),
    ],
)
def test_data_is_cut_into_chunks(length: int, sizes: list[int]) -> None:
    data = bytes(i % 251 for i in range(length))
    frames = list(data_frames(data))
    assert [len(frame) - 1 for frame in frames] == sizes
    parts = [parse_frame(frame) for frame in frames]
    assert all(isinstance(part, memoryview) for part in parts)
    assert b"".join(part for part in parts if isinstance(part, memoryview)) == data


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_data_of_any_kind_is_framed(kind: type[bytes | bytearray | memoryview]) -> None:
    assert list(data_frames(kind(b"abc"))) == [b"\x00abc"]


def test_data_is_a_view_of_its_frame_not_a_copy() -> None:
    frame = b"\x00abc"
    data = parse_frame(frame)
    assert isinstance(data, memoryview)
    assert data.obj is frame


@given(messages)
def test_a_control_message_survives_its_frame(message: Message) -> None:
    assert parse_frame(control_frame(message)) == message


def test_the_bytes_of_a_control_frame() -> None:
    assert control_frame(HalfClose()) == bytes.fromhex("01 92 aa 68616c665f636c6f7365 80")


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (b"", r"^an empty tunnel frame$"),
        (b"\x00" * (MAX_TUNNEL_FRAME + 1), rf"^a tunnel frame of {MAX_TUNNEL_FRAME + 1} bytes$"),
        (b"\x02abc", r"^a tunnel frame of unknown kind 2$"),
        (b"SSH-2.0-x\r\n", r"^a tunnel frame of unknown kind 83$"),
        (b"\x01", r"^not a message: "),
        (b"\x01\xff", r"^not a message: "),
    ],
    ids=["empty", "oversized", "unknown kind", "bare ssh", "no message", "bad message"],
)
def test_garbage_is_named(frame: bytes, words: str) -> None:
    with pytest.raises(Garbage, match=words):
        parse_frame(frame)


def test_the_largest_frame_passes() -> None:
    data = parse_frame(b"\x00" * MAX_TUNNEL_FRAME)
    assert isinstance(data, memoryview)
    assert len(data) == MAX_TUNNEL_FRAME - 1


@given(st.binary(max_size=100))
@example(b"\x01" + b"\x91" * 100_000)
def test_bytes_from_anywhere_are_a_frame_or_garbage(frame: bytes) -> None:
    try:
        parse_frame(frame)
    except Garbage:
        pass


# -- frames of carriers -----------------------------------------------------------------

ONE, TWO = bytes(7) + b"\x01", bytes(7) + b"\x02"
ATTACH = TunnelKey(bytes(32)).join(Party.CLIENT, "c" * 32, 1, 0)


@pytest.mark.parametrize(
    ("frame", "raw"),
    [
        (Acked(1), b"\x01" + ONE),
        (SwitchTo(1, 2), b"\x03" + ONE + TWO),
        (CarrierPing(1), b"\x04" + ONE),
        (CarrierPong(2), b"\x05" + TWO),
        (Retired("moved"), b"\x06moved"),
    ],
)
def test_the_bytes_of_a_word(
    frame: Acked | SwitchTo | CarrierPing | CarrierPong | Retired, raw: bytes
) -> None:
    assert encode_carrier_frame(frame) == raw
    assert parse_carrier_frame(raw) == frame


def test_a_numbered_frame_is_a_view() -> None:
    raw = numbered_head(1, 2) + b"abc"
    assert raw == b"\x00" + ONE + TWO + b"abc"
    frame = parse_carrier_frame(raw)
    assert frame == Numbered(1, 2, memoryview(b"abc"))
    assert isinstance(frame, Numbered) and frame.frame.obj is raw


@pytest.mark.parametrize(
    "opening", [ATTACH, JoinRefused(code="bad_proof")], ids=["attach", "refusal"]
)
def test_an_opening_survives(opening: CarrierFrame) -> None:
    assert isinstance(opening, type(ATTACH) | JoinRefused)
    raw = encode_opening(opening)
    assert raw[0] == 2 and len(raw) < 300
    assert parse_carrier_frame(raw) == opening
    assert parse_carrier_frame(memoryview(raw)) == opening


KEY = TunnelKey(bytes(range(32)))
OVER = JoinRefused(code="tunnel_over", cause="session.exit", actor="a", detail="d")


@pytest.mark.parametrize(
    ("opening", "raw"),
    [
        (
            KEY.join(Party.CLIENT, "c1", 2, 300),
            "02 86 a474797065 a6617474616368 ad636f6e6e656374696f6e5f6964 a26331"
            " a763617272696572 02 a57061727479 a6636c69656e74 a87265636569766564 cd012c"
            " a570726f6f66 c420"
            " 076822ebe1c0128bcdf05ceef27fa093a8905da7166136d9d161177c5a726f5f",
        ),
        (
            KEY.refuse(OVER, "c1", 2),
            "02 86 a474797065 a772656675736564 a4636f6465 ab74756e6e656c5f6f766572"
            " a56361757365 ac73657373696f6e2e65786974 a56163746f72 a161 a664657461696c a164"
            " a570726f6f66 c420"
            " c3e72d603442af15010cc4b9d823908c428d5e11f1dbcbc9fdb10bfe7b738b8e",
        ),
    ],
    ids=["attach", "refusal"],
)
def test_the_bytes_of_an_opening_and_of_its_proof_do_not_change(
    opening: Join | JoinRefused, raw: str
) -> None:
    assert encode_opening(opening) == bytes.fromhex(raw)


def test_the_bytes_of_a_tag_do_not_change() -> None:
    tags = FrameTags(KEY.of_frames(Party.AGENT, "c1", 2), data_too=False)
    assert tags.tag(b"\x00head", b"\x00data").hex() == "17fd2e9e1378c029d59a6f7a8420ac0b"
    assert tags.tag(b"\x01", b"").hex() == "eca91e5d5c7d12f7cb990fecc2cd14fb"


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "an empty carrier frame"),
        (b"\x07", "a carrier frame of unknown kind 7"),
        (b"\x00" + ONE, "a carrier frame of kind 0 with 9 bytes"),
        (b"\x01" + ONE + b"x", "a carrier frame of kind 1 with 10 bytes"),
        (b"\x03" + ONE, "a carrier frame of kind 3 with 9 bytes"),
        (b"\x04", "a carrier frame of kind 4 with 1 bytes"),
        (b"\x05", "a carrier frame of kind 5 with 1 bytes"),
        (b"\x06\xff", "a carrier frame of kind 6 with 2 bytes"),
        (b"\x06" + b"x" * 64, "a carrier frame of unknown kind 6"),
        (b"\x02", "an opening that means nothing"),
        (b"\x02\x80", "an opening that means nothing"),
        (b"\x02" + bytes(MAX_OPENING), f"an opening of {MAX_OPENING} bytes"),
    ],
)
def test_garbage_of_a_carrier_is_named(raw: bytes, words: str) -> None:
    with pytest.raises(Garbage) as garbage:
        parse_carrier_frame(raw)
    assert str(garbage.value) == words
