"""The tables of what ran over connections: sessions, IDE sessions, forwards and file operations."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Index

from tether.attribution.vocabulary import ConnectionType
from tether.server.db.tables.base import BigInt, Key, Row, Sequence, table
from tether.server.db.tables.connections import ConnectionKey, OfConnection


class SessionRow(Row, frozen=True, kw_only=True):
    connection_id: ConnectionKey
    session_id: Key  # chosen by the agent
    session_type: ConnectionType
    pty: bool
    subsystem: str = ""
    started_at: float
    ended_at: float | None
    process_ended_at: float | None  # where the process outlived the session
    exit_code: int | None
    exit_signal: str | None
    app: str = ""  # the program behind it, if known


sessions = table("sessions", SessionRow)
"""What ran over a connection. Keyed by both, so that no agent can write over another's."""


class IdeSessionRow(Row, frozen=True, kw_only=True):
    connection_id: ConnectionKey
    backend_pid: int
    backend_marker: str  # what gave the backend away
    caused_by: str  # the connection whose end explains its own, or ''
    channels: list[dict[str, Any]]  # the first forwarded connections, bounded
    channels_total: int


ide_sessions = table("ide_sessions", IdeSessionRow)
"""What is known of an IDE session beyond its row in `connections`."""


class ForwardRow(Row, frozen=True, kw_only=True):
    id: Sequence
    connection_id: OfConnection
    forward_id: int | None  # counts up within the connection; NULL: a roll-up of many
    kind: str  # a ForwardKind, or a kind that only a newer agent knows
    destination: str  # '*': too many for a row each
    origin: str = ""
    started_at: float  # the agent's clock; a roll-up's first
    ended_at: float | None  # NULL: open; a roll-up's last report
    duration_s: float = 0  # a roll-up's longest
    started: int = 1  # how many it stands for
    ended: int = 0
    ends: dict[str, int]  # ForwardEnd (or a newer agent's) -> how often
    cause: str = ""  # where it is more than the end
    detail: str = ""
    rx_bytes: BigInt = 0
    tx_bytes: BigInt = 0


forwards = table(
    "forwards",
    ForwardRow,
    Index("uq_forwards_connection_id_forward_id", "connection_id", "forward_id", unique=True),
    sqlite_autoincrement=True,
)
"""Forwarded connections: the first ones one by one, the others counted per kind and destination."""


class FileOperationsRow(Row, frozen=True, kw_only=True):
    connection_id: ConnectionKey
    session_id: Key
    program: str
    operations: list[dict[str, Any]]  # what was asked for, bounded by the agent
    left_out: int  # requests that were too many to be kept
    complete: bool  # false: the stream could not be followed
    received_at: float


file_operations = table("file_operations", FileOperationsRow)
"""The audit of a session's file operations: what a client asked for, not what was done."""
