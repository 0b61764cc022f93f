"""The messages of the control link and of the tunnel, and their one codec.

Law: types and bytes only. A message is an envelope `[type, body]` in MessagePack: the type is read
first, so that a message of a newer peer decodes to `Unrecognized` instead of failing; unknown keys
of a known message are ignored, missing ones take their defaults (peers of different versions talk).
Malformed bytes raise `Garbage`, which its reader turns into a protocol error of the peer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import msgspec

from tether.protocol.messages.base import Garbage as Garbage, Message as Message
from tether.protocol.messages.coordination import (
    Coordinate as Coordinate,
    CoordinateClosed as CoordinateClosed,
    CoordinateError as CoordinateError,
    CoordinateOpen as CoordinateOpen,
    CoordinateOpened as CoordinateOpened,
    PeerUpdates as PeerUpdates,
    ResumeTokenGrant as ResumeTokenGrant,
    ResumeTokenRequest as ResumeTokenRequest,
)
from tether.protocol.messages.derp import DerpMap as DerpMap
from tether.protocol.messages.fact_record import FactRecord as FactRecord
from tether.protocol.messages.forwards import ForwardRecord, ForwardRollup, IdeSessionRecord
from tether.protocol.messages.lifecycle import LifecycleRecord
from tether.protocol.messages.path_records import PathRecord
from tether.protocol.messages.probe import (
    ProbeResult as ProbeResult,
    ProbeStart as ProbeStart,
    ProbeStop as ProbeStop,
)
from tether.protocol.messages.relay import (
    RelayDrain as RelayDrain,
    RelayDraining as RelayDraining,
    RelayEnd as RelayEnd,
    RelayRegister as RelayRegister,
    RelayRegistered as RelayRegistered,
    RelayReport as RelayReport,
    RelayReportAck as RelayReportAck,
)
from tether.protocol.messages.transfers import FileOperations
from tether.protocol.messages.tunnel import (
    CarrierDenied as CarrierDenied,
    CarrierGrant as CarrierGrant,
    CarrierOffer as CarrierOffer,
    CarrierRequest as CarrierRequest,
    ClientLost as ClientLost,
    OfferDeclined as OfferDeclined,
    TunnelDenied as TunnelDenied,
    TunnelGrant as TunnelGrant,
    TunnelOffer as TunnelOffer,
    TunnelRequest as TunnelRequest,
)

PROTOCOL = (2, 0)
"""Major, minor. Another major is refused; a newer minor only adds messages and keys."""

MAX_CONTROL_MESSAGE = 1 << 20
"""Bytes. A larger control message is garbage, whoever sends it."""

MAX_TUNNEL_FRAME = 256 << 10
"""Bytes. A larger tunnel frame is garbage."""

TUNNEL_CHUNK = 64 << 10
"""Bytes of data per frame that we send: the relay's best size (measurements C2)."""


# -- both directions, control link and tunnel -----------------------------------------


class Ping(Message, frozen=True, kw_only=True):
    n: int


class Pong(Message, frozen=True, kw_only=True):
    n: int


class Goodbye(Message, frozen=True, kw_only=True):
    """I am leaving, and this is why.

    `cause` is a catalogue code; "" where the sender only knows `facts` (a client that saw its local
    ssh go away). `retry_after_s` says when dialling again makes sense; negative means never.
    """

    cause: str = ""
    actor: str = ""
    detail: str = ""
    retry_after_s: float = 0.0
    facts: list[FactRecord] = []


class GoodbyeAck(Message, frozen=True, kw_only=True):
    """Heard; you may close."""


class Unsupported(Message, frozen=True, kw_only=True):
    """You sent a message type that this version does not know; it was ignored."""

    message_type: str


# -- control link: opening ------------------------------------------------------------


class Hello(Message, frozen=True, kw_only=True):
    """First message of the dialling party."""

    protocol: tuple[int, int]
    role: str
    """"agent", "client" or "relay"."""
    version: str
    instance_id: str
    """Made anew by every run of a program."""
    boot_id: str = ""
    hostname: str = ""
    capabilities: list[str] = []
    ssh_host_key: str = ""
    """Agents: public host key, one OpenSSH line."""
    journal_id: str = ""
    """Agents: made once with the journal; the reports that follow carry it."""
    open_connections: list[str] = []
    """Agents: connections that live or whose end is still in the journal."""


class Welcome(Message, frozen=True, kw_only=True):
    """The server's answer to `Hello`."""

    protocol: tuple[int, int]
    connection_id: str
    """This control link's own row in the connection log."""
    server_instance: str
    version: str
    capabilities: list[str] = []
    ping_every_s: float = 15.0
    patience_s: float = 45.0
    workspace_id: str = ""
    workspace: str = ""
    workspace_running: bool = True
    user_ca_key: str = ""
    """Agents: the server's SSH user CA, one OpenSSH line."""
    user: str = ""
    """Clients: who the token belongs to."""


# -- control link: commands ------------------------------------------------------------


class WorkspaceStop(Message, frozen=True, kw_only=True):
    """Server to agent: end every session with this cause, then leave."""

    cause: str
    actor: str = ""
    detail: str = ""


class WorkspaceStart(Message, frozen=True, kw_only=True):
    """Server to agent: the workspace runs again; take tunnels."""

    actor: str = ""


class EndConnections(Message, frozen=True, kw_only=True):
    """Server to agent: end these connections with this cause: a user's access was withdrawn, or their
    client, which could not reach the agent any more, has told the server that it left."""

    connection_ids: list[str]
    cause: str
    actor: str = ""
    detail: str = ""
    by_client: bool = False
    """Whether it is the client that said so, and the server only passes it on."""


# -- control link: reports ------------------------------------------------------------


class Opened(msgspec.Struct, frozen=True, kw_only=True, tag="opened", omit_defaults=True):
    """A connection came up."""

    connection_id: str
    at: float


class SessionRecord(msgspec.Struct, frozen=True, kw_only=True, tag="session", omit_defaults=True):
    """A session within a connection: sent at its start (`ended_at` absent) and at its end."""

    connection_id: str
    session_id: str
    session_type: str
    """A `ConnectionType` word."""
    started_at: float
    pty: bool = False
    subsystem: str = ""
    app: str = ""
    """The program behind it, as `agent.commands.session_type` names it (`cursor`); "" is not known."""
    ended_at: float | None = None
    process_ended_at: float | None = None
    """Where its process outlived it: when that ended, with its status."""
    exit_code: int | None = None
    exit_signal: str | None = None


class Ended(msgspec.Struct, frozen=True, kw_only=True, tag="ended", omit_defaults=True):
    """A connection ended, with everything this party knows about why."""

    connection_id: str
    at: float
    facts: list[FactRecord]
    symptoms: list[FactRecord] = []
    rx_bytes: int = 0
    tx_bytes: int = 0


class UnknownItem(msgspec.Struct, frozen=True, kw_only=True, tag="unknown", omit_defaults=True):
    """Stands where a newer peer's report has an item that this version does not know, so that the
    numbers of the others stay right. Never sent."""

    connection_id: str = ""


ReportItem: TypeAlias = (
    Opened
    | SessionRecord
    | Ended
    | ForwardRecord
    | ForwardRollup
    | IdeSessionRecord
    | FileOperations
    | PathRecord
    | LifecycleRecord
    | UnknownItem
)


class Report(Message, frozen=True, kw_only=True):
    """Items of a journal, in order. `first_seq` is the journal's number of the first of them."""

    journal_id: str
    first_seq: int
    items: list[ReportItem]


class ReportAck(Message, frozen=True, kw_only=True):
    """Everything up to and including `seq` is committed; forget it."""

    journal_id: str
    seq: int


# -- tunnel (end to end; the relay does not look inside) -------------------------------


class TunnelHello(Message, frozen=True, kw_only=True):
    """First control frame of both ends."""

    protocol: tuple[int, int]
    party: str
    version: str
    capabilities: list[str] = []


class HalfClose(Message, frozen=True, kw_only=True):
    """No more data will follow in this direction."""


class LoginResult(Message, frozen=True, kw_only=True):
    """Agent to client: whether a credential was let in. ssh keeps our words from its user."""

    accepted: bool
    sentence: str = ""


class SessionResult(Message, frozen=True, kw_only=True):
    """Agent to client: how the last session's process ended. `ssh` cannot tell its caller."""

    exit_code: int | None = None
    exit_signal: str | None = None


class Redraw(Message, frozen=True, kw_only=True):
    """Client to agent: something was written over the user's terminal; have its program draw anew."""


class Unrecognized(Message, frozen=True, kw_only=True):
    """A message type that this version does not know. Never sent."""

    message_type: str


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


TYPES: Mapping[str, type[Message]] = {
    _snake(cls.__name__): cls for cls in Message.__subclasses__() if cls is not Unrecognized
}
_NAMES = {cls: name for name, cls in TYPES.items()}
_ENVELOPE = msgspec.msgpack.Decoder(tuple[str, msgspec.Raw])
_BODIES = {name: msgspec.msgpack.Decoder(cls) for name, cls in TYPES.items()}
_ENCODER = msgspec.msgpack.Encoder()


class _AnyItem(msgspec.Struct):
    type: str = ""
    connection_id: str = ""


class _AnyReport(msgspec.Struct):
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
