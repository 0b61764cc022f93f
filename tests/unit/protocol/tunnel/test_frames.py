"""Tunnel frames: data in chunks, control messages beside it, nothing else."""

from __future__ import annotations

import pytest
from hypothesis import example, given, strategies as st

from tests.support.protocol.messages import messages
from tether.protocol.messages.base import Garbage, Message
from tether.protocol.messages.codec import MAX_TUNNEL_FRAME, TUNNEL_CHUNK
from tether.protocol.messages.tunnel import HalfClose
from tether.protocol.tunnel.frames import control_frame, data_frames, parse_frame


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
