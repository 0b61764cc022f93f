"""Tunnel frames: one kind byte, then data or a control message.

Law: no state and no I/O. The relay copies frames without reading them; both ends use this file.
"""

from __future__ import annotations

from collections.abc import Iterator

from tether.protocol.messages.base import Garbage, Message
from tether.protocol.messages.codec import MAX_TUNNEL_FRAME, TUNNEL_CHUNK, decode, encode

DATA, _CONTROL = 0, 1
"""The kinds."""


def data_frames(data: bytes | bytearray | memoryview) -> Iterator[bytes]:
    """`data` (any length) as frames of at most `TUNNEL_CHUNK` bytes of payload."""
    view = memoryview(data)
    for start in range(0, len(view), TUNNEL_CHUNK):
        yield b"".join((b"\x00", view[start : start + TUNNEL_CHUNK]))


def control_frame(message: Message) -> bytes:
    """`message` as one frame."""
    return b"\x01" + encode(message)


def parse_frame(frame: bytes | memoryview) -> memoryview | Message:
    """Data as a view of `frame`, or the control message in it.

    Raises:
        Garbage: an empty, oversized or unknown frame, or no message where one should be.
    """
    if not frame:
        raise Garbage("an empty tunnel frame")
    if len(frame) > MAX_TUNNEL_FRAME:
        raise Garbage(f"a tunnel frame of {len(frame)} bytes")
    if frame[0] == DATA:
        return memoryview(frame)[1:]
    if frame[0] == _CONTROL:
        return decode(memoryview(frame)[1:])
    raise Garbage(f"a tunnel frame of unknown kind {frame[0]}")
