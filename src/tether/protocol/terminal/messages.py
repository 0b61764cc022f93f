"""The messages of an attach: a client's view of a terminal that outlives it.

Law: types and bytes only. The client's first line is one control message as JSON text, and everything
after it, in both directions, is frames; the CLI speaks so over an SSH subsystem (`SUBSYSTEM`), and a
page over its sealed channel. A control message is `[type, body]` in JSON. A type of a newer peer reads
as `Unrecognized`, unknown keys are ignored, and missing ones take their defaults. Malformed bytes raise
`Garbage`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

import msgspec

from tether.protocol.messages.base import Garbage, wire_name

SUBSYSTEM = "tether-pty"

MAX_INIT = 64 << 10
"""Bytes. A longer first line is garbage."""

MAX_FRAME = 8 << 20
"""Bytes. A larger frame is garbage: a snapshot of the largest screen with its history fits."""

MAX_SIDE = 1_000
"""Rows or columns; a larger terminal is cut to it."""

_DATA, _CONTROL = b"\x00", b"\x01"
_HEAD = 4


class TerminalMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of every message; its wire type is the class name in snake case."""


# -- client to agent ------------------------------------------------------------------


class Init(TerminalMessage, frozen=True, kw_only=True):
    """First: attach me to the terminal `id`, which is made if there is none."""

    rows: int
    cols: int
    id: str = ""
    """"" makes a new one."""
    name: str = ""
    """Of a new one, for people; "" takes the command's."""
    command: str = ""
    """For a new one; "" is the login shell."""
    size_policy: str = ""
    """For a new one: "smallest" (default) or "last"."""
    history: int = 1_000
    """Lines of scrollback to send."""


class Resize(TerminalMessage, frozen=True, kw_only=True):
    """My window has this size now."""

    rows: int
    cols: int


class Detach(TerminalMessage, frozen=True, kw_only=True):
    """Let me go; the terminal lives on."""


class List(TerminalMessage, frozen=True, kw_only=True):
    """Which terminals are there? Also allowed first, instead of `Init`."""


class Rename(TerminalMessage, frozen=True, kw_only=True):
    """Call the terminal `id` by another name. Also allowed first."""

    id: str
    name: str


class Kill(TerminalMessage, frozen=True, kw_only=True):
    """End the terminal `id`. Also allowed first."""

    id: str


# -- agent to client ------------------------------------------------------------------


class Attached(TerminalMessage, frozen=True, kw_only=True):
    """You see `id` now; a `Snapshot` follows."""

    id: str
    name: str
    created: bool
    rows: int
    cols: int
    idle_s: float | None = None
    """For how long it lives when nobody looks; None for ever, or where the agent does not tell."""


class Snapshot(TerminalMessage, frozen=True, kw_only=True):
    """Forget what you show: `vt`, written to a terminal, makes the whole of it.

    Where your window is not `rows` by `cols`, only snapshots follow and no output: bytes that were
    laid out for another width would come out wrong.
    """

    rows: int
    cols: int
    vt: str
    title: str = ""
    exact: bool = True
    """False: raw bytes are replayed, because no emulator runs; the picture may be incomplete."""


class Info(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One terminal in a `Listing`."""

    id: str
    name: str
    command: str
    rows: int
    cols: int
    viewers: list[str] = []
    """Users, one a viewer."""
    created_at: float = 0.0
    expires_in_s: float | None = None
    """Until it is ended for want of viewers; None while it has some, or never."""


class Listing(TerminalMessage, frozen=True, kw_only=True):
    """The answer to `List`."""

    terminals: list[Info]


class Done(TerminalMessage, frozen=True, kw_only=True):
    """The answer to `Rename` or `Kill`."""

    id: str


class Refused(TerminalMessage, frozen=True, kw_only=True):
    """A request was not carried out; the attach goes on. `message` is one sentence.

    `code` is `not_found`, `not_started`, `agent_leaving`, `too_many_terminals`, `too_many_viewers`,
    `bad_id`, `bad_command` or `bad_name`.
    """

    code: str
    message: str


class AttachEnded(TerminalMessage, frozen=True, kw_only=True):
    """Last: the attach is over, and this is why. `cause` is a catalogue code."""

    cause: str
    sentence: str
    actor: str = ""
    detail: str = ""
    exit_code: int | None = None
    exit_signal: str | None = None
    terminal_lives: bool = False
    """Whether attaching again shows the same terminal."""


class Unrecognized(TerminalMessage, frozen=True, kw_only=True):
    """A type that this version does not know. Never sent."""

    message_type: str


Item: TypeAlias = TerminalMessage | bytes
"""A control message, or bytes of the terminal itself (input one way, output the other)."""


TYPES: Mapping[str, type[TerminalMessage]] = {
    wire_name(cls): cls for cls in TerminalMessage.__subclasses__() if cls is not Unrecognized
}
_NAMES = {cls: name for name, cls in TYPES.items()}
_ENVELOPE = msgspec.json.Decoder(tuple[str, msgspec.Raw])
_BODIES = {name: msgspec.json.Decoder(cls) for name, cls in TYPES.items()}


def encode_text(message: TerminalMessage) -> bytes:
    """The JSON text of `message`, on one line and without its end."""
    return msgspec.json.encode((_NAMES[type(message)], message))


def decode_text(text: bytes | memoryview) -> TerminalMessage:
    """The message in `text`; `Unrecognized` for a type of a newer peer.

    Raises:
        Garbage: `text` is no message.
    """
    try:
        name, body = _ENVELOPE.decode(text)
        decoder = _BODIES.get(name)
        return Unrecognized(message_type=name[:64]) if decoder is None else decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        raise Garbage(f"not a terminal message: {str(wrong)[:200]}") from wrong


def pack(item: Item) -> bytes:
    """`item` as the payload of a frame: a kind byte, then data or JSON."""
    return _DATA + item if isinstance(item, bytes) else _CONTROL + encode_text(item)


def unpack(payload: bytes) -> Item:
    """What `payload` holds.

    Raises:
        Garbage: an empty payload, an unknown kind, or no message where one should be.
    """
    kind, rest = payload[:1], payload[1:]
    if kind == _DATA:
        return rest
    if kind == _CONTROL:
        return decode_text(rest)
    raise Garbage(f"a terminal frame of unknown kind {kind!r}")


def frame(item: Item) -> bytes:
    """`item` as one frame: the payload's length (4 bytes), then the payload."""
    payload = pack(item)
    return len(payload).to_bytes(_HEAD, "big") + payload


def opening_line(message: TerminalMessage) -> bytes:
    """`message` as the client's first line."""
    return encode_text(message) + b"\n"


class FrameReader:
    """Cuts a byte stream into frames, in whatever pieces it comes."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Item]:
        """Add `data`; yields what is complete. Read no further after `Garbage`.

        Raises:
            Garbage: the stream is not frames of this protocol.
        """
        self._buffer += data
        while len(self._buffer) >= _HEAD:
            length = int.from_bytes(self._buffer[:_HEAD], "big")
            if not 0 < length <= MAX_FRAME:
                raise Garbage(f"a terminal frame of {length} bytes")
            if len(self._buffer) < _HEAD + length:
                return
            payload = bytes(self._buffer[_HEAD : _HEAD + length])
            del self._buffer[: _HEAD + length]
            yield unpack(payload)


class OpeningReader:
    """Reads the client's first line. What comes after it belongs to a `FrameReader`."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> tuple[TerminalMessage, bytes] | None:
        """Add `data`; the first message and the bytes after it, once the line is complete.

        Raises:
            Garbage: the line is too long or no message.
        """
        self._buffer += data
        end = self._buffer.find(b"\n")
        if max(end, len(self._buffer) if end < 0 else 0) > MAX_INIT:
            raise Garbage("the first line is too long")
        if end < 0:
            return None
        return decode_text(bytes(self._buffer[:end])), bytes(self._buffer[end + 1 :])
