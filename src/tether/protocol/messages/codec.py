"""The one codec of all messages, and their limits.

Law: bytes only. A message is an envelope `[type, body]` in MessagePack. The type is read first, so
that a message of a newer peer decodes to `Unrecognized` instead of failing. Unknown keys of a known
message are ignored, and missing ones take their defaults, so that peers of different versions
understand each other. Malformed bytes raise `Garbage`, which its reader turns into a protocol error
of the peer.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from tether.protocol.messages import control, coordination, derp, probe, reports, tunnel
from tether.protocol.messages.base import Garbage, Message, Unrecognized, wire_name
from tether.protocol.messages.reports import Report, ReportItem, UnknownItem

PROTOCOL = (2, 0)
"""Major, minor. Another major is refused; a newer minor only adds messages and keys."""

MAX_CONTROL_MESSAGE = 1 << 20
"""Bytes. A larger control message is garbage, whoever sends it."""

MAX_TUNNEL_FRAME = 256 << 10
"""Bytes. A larger tunnel frame is garbage."""

TUNNEL_CHUNK = 64 << 10
"""Bytes of data per frame that we send. Measured: larger frames make a relay no faster."""

_MODULES = (control, tunnel, reports, coordination, derp, probe)


TYPES: Mapping[str, type[Message]] = {
    wire_name(cls): cls
    for module in _MODULES
    for cls in vars(module).values()
    if isinstance(cls, type) and issubclass(cls, Message) and cls.__module__ == module.__name__
}
"""Wire type -> class, in the order of the source."""

_NAMES = {cls: name for name, cls in TYPES.items()}
_ENVELOPE = msgspec.msgpack.Decoder(tuple[str, msgspec.Raw])
_BODIES = {name: msgspec.msgpack.Decoder(cls) for name, cls in TYPES.items()}
_ENCODER = msgspec.msgpack.Encoder()


class _AnyItem(msgspec.Struct):
    """What every item of every version has."""

    type: str = ""
    connection_id: str = ""


class _AnyReport(msgspec.Struct):
    """A `Report` whose items are not read yet."""

    journal_id: str
    first_seq: int
    items: list[msgspec.Raw]


_ITEM: msgspec.msgpack.Decoder[ReportItem] = msgspec.msgpack.Decoder(ReportItem)
_ANY_ITEM = msgspec.msgpack.Decoder(_AnyItem)
_ANY_REPORT = msgspec.msgpack.Decoder(_AnyReport)
_KINDS = {str(cls.__struct_config__.tag) for cls in ReportItem.__args__}


def encode(message: Message) -> bytes:
    """The wire form of `message`."""
    return _ENCODER.encode((_NAMES[type(message)], message))


def decode(data: bytes | memoryview) -> Message:
    """The message in `data`; `Unrecognized` for a type of a newer peer.

    Raises:
        Garbage: `data` is no message.
    """
    try:
        name, body = _ENVELOPE.decode(data)
        decoder = _BODIES.get(name)
        if decoder is None:
            return Unrecognized(message_type=name[:64])
        try:
            return decoder.decode(body)
        except msgspec.ValidationError:
            if name != _NAMES[Report]:
                raise
            return _newer_report(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        raise Garbage(f"not a message: {str(wrong)[:200]}") from wrong


def decode_item(data: bytes | memoryview | msgspec.Raw) -> ReportItem:
    """One item of a report or a journal; `UnknownItem` for a kind of a newer version.

    Raises:
        msgspec.DecodeError: it is none.
    """
    try:
        return _ITEM.decode(data)
    except msgspec.ValidationError:
        item = _ANY_ITEM.decode(data)
        if not item.type or item.type in _KINDS:
            raise
        return UnknownItem(connection_id=item.connection_id)


def _newer_report(body: msgspec.Raw) -> Report:
    report = _ANY_REPORT.decode(body)
    return Report(
        journal_id=report.journal_id,
        first_seq=report.first_seq,
        items=[decode_item(item) for item in report.items],
    )
