"""What the agent and its screen host say to each other: frames over two pipes.

Law: types and bytes only. A frame is its operation, the terminal's number and the length of what
follows. Order is everything: a screen that was asked for shows what was fed before the question.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum

_HEAD = struct.Struct(">BII")
_SIDES = struct.Struct(">HH")
_WANTED = struct.Struct(">IIHH")
_TICKET = struct.Struct(">I")


class Op(IntEnum):
    """Operations. OPEN to CLOSE go to the host, the others come from it."""

    OPEN = 1
    FEED = 2
    RESIZE = 3
    SHOW = 4
    CLOSE = 5
    ANSWER = 6  # bytes for the program
    SHOWN = 7


def encode(op: Op, number: int, body: bytes = b"") -> bytes:
    """One frame."""
    return _HEAD.pack(op, number, len(body)) + body


def sides(rows: int, cols: int) -> bytes:
    """The body of OPEN and RESIZE."""
    return _SIDES.pack(rows, cols)


def read_sides(body: bytes) -> tuple[int, int]:
    """Rows and columns."""
    rows, cols = _SIDES.unpack(body)
    return rows, cols


def wanted(ticket: int, history: int, rows: int, cols: int) -> bytes:
    """The body of SHOW; `rows` and `cols` of a window of another size, or 0."""
    return _WANTED.pack(ticket, history, rows, cols)


def read_wanted(body: bytes) -> tuple[int, int, int, int]:
    """Ticket, history, rows and columns."""
    ticket, history, rows, cols = _WANTED.unpack(body)
    return ticket, history, rows, cols


def shown(ticket: int, title: str, vt: bytes) -> bytes:
    """The body of SHOWN."""
    words = title.encode("utf-8", "replace")[:1024]
    return _TICKET.pack(ticket) + _TICKET.pack(len(words)) + words + vt


def read_shown(body: bytes) -> tuple[int, str, bytes]:
    """Ticket, title and the bytes that draw the screen."""
    (ticket,), (length,) = _TICKET.unpack_from(body), _TICKET.unpack_from(body, 4)
    return ticket, body[8 : 8 + length].decode("utf-8", "replace"), body[8 + length :]


class Frames:
    """Cuts a byte stream into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[Op, int, bytes]]:
        """Add `data`; yields operation, number and body of what is complete.

        Raises:
            ValueError: the stream is not frames.
        """
        self._buffer += data
        start = 0
        while len(self._buffer) - start >= _HEAD.size:
            op, number, length = _HEAD.unpack_from(self._buffer, start)
            end = start + _HEAD.size + length
            if len(self._buffer) < end:
                break
            body = bytes(self._buffer[start + _HEAD.size : end])
            start = end
            yield Op(op), number, body
        del self._buffer[:start]
