"""UDP over an SSH subsystem: one destination a session, many flows, one datagram a frame.

Law: types and bytes only. The client's first line names the destination, and the agent's first line
says whether it can be reached; both are JSON. Then frames go both ways: the flow (4 bytes), the length
(2 bytes), both big-endian, and the datagram. A flow is a number of the client's, for a sender at its
end and a socket at the agent's. Either end forgets an idle flow without a word, as UDP does.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import msgspec

from tether.protocol.messages.base import Garbage

SUBSYSTEM = "tether-udp"
"""The SSH subsystem."""

MAX_LINE = 1024
"""Bytes. A longer first line is garbage."""

MAX_DATAGRAM = 65_507
"""Bytes: what UDP over IPv4 can carry."""

MAX_FLOWS = 256
"""Flows at once. Beyond it, the one that was idle for longest is forgotten."""

IDLE_S = 60.0
"""How long a flow without a datagram is remembered."""

_HEAD = struct.Struct("!IH")


class UdpOpen(msgspec.Struct, frozen=True, kw_only=True):
    """The client's first line: where the datagrams of every flow go."""

    host: str
    port: int


class UdpOpened(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The agent's first line. After an `error`, one sentence for people, the session ends."""

    error: str = ""


_OPEN = msgspec.json.Decoder(UdpOpen)
_OPENED = msgspec.json.Decoder(UdpOpened)


def line(message: UdpOpen | UdpOpened) -> bytes:
    """`message` as a first line."""
    return msgspec.json.encode(message) + b"\n"


def read_open(text: bytes) -> UdpOpen:
    """The client's first line.

    Raises:
        Garbage: it is not one.
    """
    try:
        opening = _OPEN.decode(text)
    except (msgspec.DecodeError, RecursionError) as wrong:
        raise Garbage(f"no destination: {str(wrong)[:100]}") from wrong
    if not opening.host or not 0 < opening.port < 65536:
        raise Garbage("no destination: a host and a port from 1 to 65535 are wanted")
    return opening


def read_opened(text: bytes) -> UdpOpened:
    """The agent's first line.

    Raises:
        Garbage: it is not one.
    """
    try:
        return _OPENED.decode(text)
    except (msgspec.DecodeError, RecursionError) as wrong:
        raise Garbage(f"not an agent's answer: {str(wrong)[:100]}") from wrong


def frame(flow: int, datagram: bytes | memoryview) -> bytes:
    """One datagram of a flow."""
    return _HEAD.pack(flow & 0xFFFFFFFF, len(datagram)) + datagram


class DatagramReader:
    """Cuts a byte stream into datagrams, in whatever pieces it comes. It keeps one frame at most."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Add `data`; yields the flow and the datagram of each complete frame. Raises `Garbage`."""
        self._buffer += data
        at = 0
        while at + _HEAD.size <= len(self._buffer):
            flow, length = _HEAD.unpack_from(self._buffer, at)
            if length > MAX_DATAGRAM:
                raise Garbage(f"a datagram of {length} bytes")
            end = at + _HEAD.size + length
            if end > len(self._buffer):
                break
            yield flow, bytes(self._buffer[at + _HEAD.size : end])
            at = end
        del self._buffer[:at]
