"""The tables of the connection log: connections, the evidence about them, and what was judged from it.

Law: as `base`; and a closed connection without an attribution cannot be stored.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from sqlalchemy import CheckConstraint, Index, text

from tether.attribution.vocabulary import (
    PUBLIC_REASONS,
    Basis,
    ConnectionMethod,
    ConnectionType,
    ConnectType,
    Initiator,
    Reason,
    Vantage,
)
from tether.server.db.tables.base import BigInt, IntKey, Key, Row, Sequence, column, one_of, table


class ConnectionStatus(StrEnum):
    """Where a connection is in its life. `pending`: granted, but no agent has reported it open."""

    PENDING = "pending"
    ONGOING = "ongoing"
    CLOSED = "closed"


class ConnectionRow(Row, frozen=True, kw_only=True):
    """A tunnel, a control link or an IDE session. `disconnect_…` is None while it is open."""

    seq: Sequence  # the order in which rows were made
    connection_id: Annotated[str, column(unique=True)]  # uuid4, hexadecimal
    status: ConnectionStatus
    connect_type: ConnectType
    type: ConnectionType
    workspace_id: Annotated[str | None, column(refers_to="workspaces.workspace_id")]
    workspace: str | None  # its name at that time
    agent: str | None  # the agent's host name
    user: str | None
    client_ip: str | None
    connection_method: ConnectionMethod = ConnectionMethod.NONE
    client_session_id: str | None
    journal_id: str | None  # the agent's journal that answers for this row
    agent_instance: str | None  # the agent's run that was offered it
    created_at: float
    connected_at: float | None
    disconnected_at: float | None
    rx_bytes: BigInt = 0
    tx_bytes: BigInt = 0
    disconnect_reason: Reason | None
    disconnect_expected: bool | None
    disconnect_initiator: Initiator | None
    disconnect_detail: str | None
    disconnect_cause: str | None  # a code of attribution.causes
    disconnect_basis: Basis | None
    disconnect_actor: str | None
    coarse_reason: str | None  # its reason in the public vocabulary
    exit_code: int | None
    exit_signal: str | None
    rule: str | None  # the rule of attribution.rules that decided
    incident_id: str | None
    revision: int = 0
    parent_id: str | None  # of an IDE session: the SSH connection that it began on
    app: str = ""  # the program that gave it its type
    node_id: str | None  # the boot id of the agent's machine
    relay_region: str | None  # of the relay that its carrier goes through
    proximate_cause: str | None  # what the end itself shows, where another cause is behind it
    confidence: str | None  # how far its judgement is trusted
    root_event_id: str | None  # the connection whose end explains its own
    incident_key: str | None  # the element that its end is about
    detached_since: float | None  # of an ongoing tunnel: no carrier is in use since then
    carrier: int | None  # the one in use, or last in use; NULL: none was reported
    path_events_total: int = 0
    token_id: str | None  # of a tunnel: the token of the client that it was granted to

    @property
    def is_ongoing(self) -> bool:
        return self.status is ConnectionStatus.ONGOING

    @property
    def cause_and_actor(self) -> tuple[str, str]:
        """Of its end; "" where there is none."""
        return self.disconnect_cause or "", self.disconnect_actor or ""

    @property
    def is_closed(self) -> bool:
        return self.status is ConnectionStatus.CLOSED


_FILTERED = ("disconnect_cause", "disconnect_reason", "disconnect_expected", "type")


def _where(condition: str) -> dict[str, Any]:
    """The options of an index over the rows for which `condition` holds."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


connections = table(
    "connections",
    ConnectionRow,
    one_of("coarse_reason", [reason for reason in Reason if reason in PUBLIC_REASONS]),
    CheckConstraint(
        "status <> 'closed' OR (disconnected_at IS NOT NULL AND disconnect_reason IS NOT NULL"
        " AND disconnect_expected IS NOT NULL AND disconnect_initiator IS NOT NULL"
        " AND disconnect_cause IS NOT NULL AND disconnect_basis IS NOT NULL"
        " AND coarse_reason IS NOT NULL AND rule IS NOT NULL)",
        name="closed_is_attributed",
    ),
    CheckConstraint(
        "status = 'closed' OR (disconnected_at IS NULL AND disconnect_reason IS NULL)",
        name="open_is_not_ended",
    ),
    Index(None, "workspace_id", "seq"),
    # other filters are tried on these two before a row is read
    Index("ix_connections_workspace_created_at", "workspace", "created_at", *_FILTERED),
    Index("ix_connections_user_created_at", "user", "created_at", *_FILTERED),
    Index(None, "type", "created_at"),
    Index(None, "disconnect_reason", "created_at"),
    Index(None, "disconnect_cause", "created_at"),
    Index(None, "disconnect_initiator", "created_at"),
    Index(None, "disconnect_expected", "created_at"),
    Index(None, "created_at"),
    Index(None, "disconnected_at"),
    Index(  # all that the report asks of a row, so that it counts incidents without reading rows
        "ix_connections_incident",
        *("incident_id", "disconnected_at", "type", "disconnect_cause", "disconnect_reason"),
        *("disconnect_initiator", "disconnect_expected", "workspace_id", "workspace", "user"),
        "status",
        **_where("incident_id IS NOT NULL"),
    ),
    Index(None, "parent_id"),
    Index(None, "node_id"),
    Index(
        "ix_connections_incident_key",
        *("incident_key", "disconnected_at"),
        **_where("incident_key IS NOT NULL"),
    ),
    Index("ix_connections_open", "status", "workspace_id", **_where("status <> 'closed'")),
    sqlite_autoincrement=True,
)
"""One row per connection, control links and IDE sessions included. `revisions` keeps its earlier
verdicts. `parent_id` is no foreign key: SQLite would have to rebuild the table to get one."""

OfConnection = Annotated[str, column(refers_to="connections.connection_id")]
ConnectionKey = Annotated[str, column(refers_to="connections.connection_id", primary_key=True)]


class EvidenceRow(Row, frozen=True, kw_only=True):
    """What one reporter handed in about a connection at one time."""

    id: Sequence
    connection_id: OfConnection
    reporter: Vantage  # who sent it
    received_at: float  # the server's clock
    facts: list[dict[str, Any]]  # of evidence.to_record
    symptoms: list[dict[str, Any]]  # of evidence.to_record
    carrier: int | None  # of what a relay reports: the carrier that ended


evidence = table("evidence", EvidenceRow, Index(None, "connection_id"), sqlite_autoincrement=True)


class IncidentRow(Row, frozen=True, kw_only=True):
    """Ends that share an element within one window. Its symptoms are the connections with its id."""

    incident_id: Key
    element: str  # its kind and its name
    cause: str  # of its root
    root_event_id: str  # the connection that is nearest to it
    began_at: float
    acknowledged_at: float | None  # NULL: nobody has seen to it
    acknowledged_by: str | None


incidents = table("incidents", IncidentRow, Index(None, "began_at"))


class PathEventRow(Row, frozen=True, kw_only=True):
    """Something that happened to the path of a tunnel; bounded for each connection."""

    id: Sequence
    connection_id: OfConnection
    at: float  # the agent's clock
    received_at: float
    event: str  # a PathWord, or an event that only a newer agent knows
    carrier: int
    method: str
    region: str  # or the endpoint
    peer: str
    how: str
    errno: str
    gap_s: float
    resent_bytes: BigInt


path_events = table(
    "path_events", PathEventRow, Index(None, "connection_id"), sqlite_autoincrement=True
)


class RevisionRow(Row, frozen=True, kw_only=True):
    """One judgement of a connection's end. Append-only; people see the one with the highest number."""

    connection_id: ConnectionKey
    revision: IntKey
    as_of: float
    rule: str
    because: str
    fields: dict[str, Any]  # the disconnect fields of this judgement


revisions = table("revisions", RevisionRow)
