"""The frames of a tunnel, in two layers: what travels on one carrier, and what a numbered frame holds.

Law: bytes only, no state. The first byte of either is its kind. A carrier's frames are numbered ones
and the words that keep carriers in order; a numbered frame holds data or a control message, and is
handed on as a view, never copied. A relay copies frames without reading them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from tether.protocol.messages.base import Garbage, Message
from tether.protocol.messages.codec import MAX_TUNNEL_FRAME, TUNNEL_CHUNK, decode, encode
from tether.protocol.tunnel.join import Join, JoinRefused, Opening

MAX_OPENING = 1024
"""Bytes of a carrier's first frame, with which it introduces itself."""

MAX_WORD = 64
"""Bytes of a `Retired` frame."""

_NUMBERED, _ACKED, _OPENING, _USE, _PING, _PONG, _RETIRED = range(7)
_HEAD = struct.Struct(">BQQ")
_ONE = struct.Struct(">BQ")
_OPENINGS: msgspec.msgpack.Decoder[Opening] = msgspec.msgpack.Decoder(Opening)
_ENCODER = msgspec.msgpack.Encoder()


@dataclass(frozen=True, slots=True)
class Numbered:
    """Frame `number` of its sender, who has consumed everything up to `ack` of the other direction."""

    number: int
    ack: int
    frame: memoryview


@dataclass(frozen=True, slots=True)
class Acked:
    """Everything up to `ack` of the other direction has been consumed."""

    ack: int


@dataclass(frozen=True, slots=True)
class SwitchTo:
    """From the client: use this carrier from now on, and resend what follows `ack`.

    `sequence` counts up with each switch, so that one that a slow carrier delivers late is ignored.
    """

    sequence: int
    ack: int


@dataclass(frozen=True, slots=True)
class CarrierPing:
    nonce: int


@dataclass(frozen=True, slots=True)
class CarrierPong:
    nonce: int


@dataclass(frozen=True, slots=True)
class Retired:
    """The end of this carrier, which follows, is no event: its sender has `MOVED`, or all is `OVER`."""

    word: str


MOVED, OVER = "moved", "over"

CarrierFrame: TypeAlias = (
    Numbered | Acked | Join | JoinRefused | SwitchTo | CarrierPing | CarrierPong | Retired
)


def split_head(frame: memoryview) -> tuple[memoryview, memoryview]:
    """Split a frame that is not parsed yet into the carrier's part and the layer above's."""
    size = _HEAD.size if len(frame) and frame[0] == _NUMBERED else len(frame)
    return frame[:size], frame[size:]


def numbered_head(number: int, ack: int) -> bytes:
    """What goes before a frame on the wire."""
    return _HEAD.pack(_NUMBERED, number, ack)


def encode_carrier_frame(frame: Acked | SwitchTo | CarrierPing | CarrierPong | Retired) -> bytes:
    """The wire form of a word between carriers' ends."""
    if isinstance(frame, Acked):
        return _ONE.pack(_ACKED, frame.ack)
    if isinstance(frame, SwitchTo):
        return _HEAD.pack(_USE, frame.sequence, frame.ack)
    if isinstance(frame, Retired):
        return bytes((_RETIRED,)) + frame.word.encode()
    return _ONE.pack(_PING if isinstance(frame, CarrierPing) else _PONG, frame.nonce)


def encode_opening(opening: Opening) -> bytes:
    """The wire form of a join or its refusal."""
    return bytes((_OPENING,)) + _ENCODER.encode(opening)


def parse_carrier_frame(raw: bytes | memoryview) -> CarrierFrame:
    """What one frame of a carrier says.

    Raises:
        Garbage: it says nothing.
    """
    if len(raw) == 0:
        raise Garbage("an empty carrier frame")
    if len(raw) > MAX_TUNNEL_FRAME:
        raise Garbage(f"a carrier frame of {len(raw)} bytes")
    kind = raw[0]
    try:
        if kind == _NUMBERED:
            _, number, ack = _HEAD.unpack_from(raw)
            return Numbered(number, ack, memoryview(raw)[_HEAD.size :])
        if kind == _ACKED:
            return Acked(_ONE.unpack(raw)[1])
        if kind == _OPENING:
            return _parse_opening(memoryview(raw)[1:])
        if kind == _USE:
            return SwitchTo(*_HEAD.unpack(raw)[1:])
        if kind == _PING:
            return CarrierPing(_ONE.unpack(raw)[1])
        if kind == _PONG:
            return CarrierPong(_ONE.unpack(raw)[1])
        if kind == _RETIRED and len(raw) <= MAX_WORD:
            return Retired(str(memoryview(raw)[1:], "ascii"))
    except (struct.error, UnicodeDecodeError):
        raise Garbage(f"a carrier frame of kind {kind} with {len(raw)} bytes") from None
    raise Garbage(f"a carrier frame of unknown kind {kind}")


def _parse_opening(body: memoryview) -> Opening:
    if len(body) >= MAX_OPENING:
        raise Garbage(f"an opening of {len(body)} bytes")
    try:
        return _OPENINGS.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Garbage("an opening that means nothing") from None  # its bytes may hold a proof


# -- what a numbered frame holds ------------------------------------------------------------

DATA, _CONTROL = 0, 1
"""The first byte of what a numbered frame holds."""


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
