"""The tables of the server's database, and the words that only they use.

Law: data definitions only; no queries. Every column that holds a word of a closed set has a CHECK
generated from its enum, so the database refuses what the vocabulary does not know, and a closed
connection without an attribution cannot be stored. Times are unix seconds (REAL). A change here
needs a migration in `migrations/versions`; `tests/unit/server/db/test_migrations.py` compares the
two. The same metadata compiles for SQLite and for PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

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


class ConnectionStatus(StrEnum):
    """Where a connection is in its life. `pending`: granted, but no agent has reported it open."""

    PENDING = "pending"
    ONGOING = "ongoing"
    CLOSED = "closed"


class WorkspaceState(StrEnum):
    """What was last asked of a workspace."""

    RUNNING = "running"
    STOPPED = "stopped"


class Role(StrEnum):
    """What a user may do: everything, or only what concerns their own workspaces."""

    ADMIN = "admin"
    MEMBER = "member"


class TokenKind(StrEnum):
    """Whom a token speaks for."""

    USER = "user"
    AGENT = "agent"


class IntentKind(StrEnum):
    """What somebody asked for."""

    CREATE = "create"
    START = "start"
    STOP = "stop"
    EVICT = "evict"
    DELETE = "delete"
    ROTATE_TOKEN = "rotate_token"
    CREATE_USER = "create_user"
    REVOKE_USER = "revoke_user"


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

SEQ = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers only INTEGER keys by itself
JSON_COLUMN = JSON().with_variant(JSONB(), "postgresql")


def _one_of(column: str, words: Iterable[StrEnum]) -> CheckConstraint:
    """`column` holds a word of `words` (or NULL, where the column allows it)."""
    listed = ", ".join(f"'{word}'" for word in words)
    return CheckConstraint(f'"{column}" IN ({listed})', name=f"{column}_word")


users = Table(
    "users",
    metadata,
    Column("name", String, primary_key=True),
    Column("role", String, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double),  # NULL while the user has access
    Column("revoked_by", String),  # an actor, `admin:NAME`
    _one_of("role", Role),
)

workspaces = Table(
    "workspaces",
    metadata,
    Column("workspace_id", String, primary_key=True),
    Column("name", String, nullable=False),  # unique among those that are not deleted
    Column("owner", String, ForeignKey("users.name"), nullable=False),
    Column("state", String, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("deleted_at", Double),
    Column("host_key", String),  # public SSH host key that its agent announced
    Column("agent_version", String),
    Column("agent_hostname", String),
    Column("agent_first_seen_at", Double),  # NULL: no agent has ever connected
    Column("agent_last_seen_at", Double),
    Column("agent_state", String),  # the newest one that it told of, and when, by its own clock
    Column("agent_state_at", Double),
    _one_of("state", WorkspaceState),
    Index(
        "uq_workspaces_live_name",
        "name",
        unique=True,
        sqlite_where=text("deleted_at IS NULL"),
        postgresql_where=text("deleted_at IS NULL"),
    ),
    Index(None, "owner"),
)

tokens = Table(
    "tokens",
    metadata,
    Column("token_id", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("token_hash", String, nullable=False, unique=True),  # SHA-256, hexadecimal
    Column("user", String, ForeignKey("users.name")),  # of a user token
    Column("workspace_id", String, ForeignKey("workspaces.workspace_id")),  # of an agent token
    Column("label", String, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),  # NULL: never
    Column("revoked_at", Double),
    Column("last_used_at", Double),  # written in batches; may lag by a minute
    _one_of("kind", TokenKind),
    CheckConstraint(
        "(kind = 'user' AND \"user\" IS NOT NULL AND workspace_id IS NULL)"
        " OR (kind = 'agent' AND \"user\" IS NULL AND workspace_id IS NOT NULL)",
        name="speaks_for_one",
    ),
    Index(None, "user"),
    Index(None, "workspace_id"),
)

intents = Table(
    "intents",
    metadata,
    Column("id", SEQ, primary_key=True, autoincrement=True),
    Column("kind", String, nullable=False),
    Column("workspace_id", String, ForeignKey("workspaces.workspace_id")),
    Column("subject", String, nullable=False),  # name of the workspace or user at that time
    Column("cause", String, nullable=False),  # catalogue code, or '' where nothing ends
    Column("actor", String, nullable=False),  # on whose behalf: what the record will show
    Column("requested_by", String, nullable=False),  # who really asked: user:, admin:
    Column("at", Double, nullable=False),
    _one_of("kind", IntentKind),
    Index(None, "workspace_id", "at"),
    sqlite_autoincrement=True,
)
"""Append-only audit of who asked for what."""

_TRIED = ("disconnect_cause", "disconnect_reason", "disconnect_expected", "type")

connections = Table(
    "connections",
    metadata,
    Column("seq", SEQ, primary_key=True, autoincrement=True),  # the order in which rows were made
    Column("connection_id", String, nullable=False, unique=True),  # uuid4, hexadecimal
    Column("status", String, nullable=False),
    Column("connect_type", String, nullable=False),
    Column("type", String, nullable=False),
    Column("workspace_id", String, ForeignKey("workspaces.workspace_id")),
    Column("workspace", String),  # its name at that time
    Column("agent", String),  # the agent's host name
    Column("user", String),
    Column("client_ip", String),
    Column("connection_method", String, nullable=False, server_default=""),
    Column("client_session_id", String),
    Column("journal_id", String),  # the agent's journal that answers for this row
    Column("agent_instance", String),  # the agent's run that was offered it
    Column("created_at", Double, nullable=False),
    Column("connected_at", Double),
    Column("disconnected_at", Double),
    Column("rx_bytes", BigInteger, nullable=False, server_default="0"),
    Column("tx_bytes", BigInteger, nullable=False, server_default="0"),
    Column("disconnect_reason", String),
    Column("disconnect_expected", Boolean),
    Column("disconnect_initiator", String),
    Column("disconnect_detail", String),
    Column("disconnect_cause", String),  # a code of attribution.causes
    Column("disconnect_basis", String),
    Column("disconnect_actor", String),
    Column("coarse_reason", String),  # the word of the public vocabulary
    Column("exit_code", Integer),
    Column("exit_signal", String),
    Column("rule", String),  # the rule of attribution.rules that decided
    Column("incident_id", String),
    Column("revision", Integer, nullable=False, server_default="0"),
    Column("parent_id", String),  # of an IDE session: the SSH connection that it began on
    Column("app", String, nullable=False, server_default=""),  # the program that gave it its type
    Column("node_id", String),  # the boot id of the agent's machine
    Column("relay_region", String),  # of the relay that its carrier goes through
    Column(
        "proximate_cause", String
    ),  # what the end itself shows, where another cause is behind it
    Column("confidence", String),  # how far its judgement is trusted
    Column("root_event_id", String),  # the connection whose end explains its own
    Column("incident_key", String),  # the element that its end is about
    Column("detached_since", Double),  # of an ongoing tunnel: no carrier is in use since then
    Column("carrier", Integer),  # the one in use, or last in use; NULL: none was reported
    Column("path_events_total", Integer, nullable=False, server_default="0"),
    _one_of("status", ConnectionStatus),
    _one_of("connect_type", ConnectType),
    _one_of("type", ConnectionType),
    _one_of("connection_method", ConnectionMethod),
    _one_of("disconnect_reason", Reason),
    _one_of("disconnect_initiator", Initiator),
    _one_of("disconnect_basis", Basis),
    _one_of("coarse_reason", [reason for reason in Reason if reason in PUBLIC_REASONS]),
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
    Index("ix_connections_workspace_created_at", "workspace", "created_at", *_TRIED),
    Index("ix_connections_user_created_at", "user", "created_at", *_TRIED),
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
        sqlite_where=text("incident_id IS NOT NULL"),
        postgresql_where=text("incident_id IS NOT NULL"),
    ),
    Index(None, "parent_id"),
    Index(None, "node_id"),
    Index(
        "ix_connections_incident_key",
        "incident_key",
        "disconnected_at",
        sqlite_where=text("incident_key IS NOT NULL"),
        postgresql_where=text("incident_key IS NOT NULL"),
    ),
    Index(
        "ix_connections_open",
        "status",
        "workspace_id",
        sqlite_where=text("status <> 'closed'"),
        postgresql_where=text("status <> 'closed'"),
    ),
    sqlite_autoincrement=True,
)
"""One row per connection, control links and IDE sessions included. `revisions` keeps what it said
before. `parent_id` is no foreign key: SQLite would have to rebuild the table to get one."""

evidence = Table(
    "evidence",
    metadata,
    Column("id", SEQ, primary_key=True, autoincrement=True),
    Column("connection_id", String, ForeignKey("connections.connection_id"), nullable=False),
    Column("reporter", String, nullable=False),  # the vantage that sent it
    Column("received_at", Double, nullable=False),  # the server's clock
    Column("facts", JSON_COLUMN, nullable=False),  # a list of evidence.to_record
    Column("symptoms", JSON_COLUMN, nullable=False),  # a list of evidence.to_record
    Column("carrier", Integer),  # of a relay's word: the carrier whose end it tells
    _one_of("reporter", Vantage),
    Index(None, "connection_id"),
    sqlite_autoincrement=True,
)

incidents = Table(
    "incidents",
    metadata,
    Column("incident_id", String, primary_key=True),
    Column("element", String, nullable=False),  # its kind and its name
    Column("cause", String, nullable=False),  # of its root
    Column("root_event_id", String, nullable=False),  # the connection that is nearest to it
    Column("began_at", Double, nullable=False),
)
"""Ends that share an element within one window. Its symptoms are the rows with its id."""

path_events = Table(
    "path_events",
    metadata,
    Column("id", SEQ, primary_key=True, autoincrement=True),
    Column("connection_id", String, ForeignKey("connections.connection_id"), nullable=False),
    Column("at", Double, nullable=False),  # the agent's clock
    Column("received_at", Double, nullable=False),
    Column("event", String, nullable=False),  # a PathWord, or a word of a newer agent
    Column("carrier", Integer, nullable=False),
    Column("method", String, nullable=False),
    Column("region", String, nullable=False),  # or the endpoint
    Column("peer", String, nullable=False),
    Column("how", String, nullable=False),
    Column("errno", String, nullable=False),
    Column("gap_s", Double, nullable=False),
    Column("resent_bytes", BigInteger, nullable=False),
    Index(None, "connection_id"),
    sqlite_autoincrement=True,
)
"""What happened to a tunnel's way, bounded for each connection."""

revisions = Table(
    "revisions",
    metadata,
    Column("connection_id", String, ForeignKey("connections.connection_id"), primary_key=True),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("as_of", Double, nullable=False),
    Column("rule", String, nullable=False),
    Column("because", String, nullable=False),
    Column("fields", JSON_COLUMN, nullable=False),  # the disconnect fields of this judgement
)
"""Append-only: every judgement of a connection's end; the highest revision is what people see."""

sessions = Table(
    "sessions",
    metadata,
    Column("connection_id", String, ForeignKey("connections.connection_id"), primary_key=True),
    Column("session_id", String, primary_key=True),  # chosen by the agent
    Column("session_type", String, nullable=False),
    Column("pty", Boolean, nullable=False),
    Column("subsystem", String, nullable=False, server_default=""),
    Column("started_at", Double, nullable=False),
    Column("ended_at", Double),
    Column("process_ended_at", Double),  # where the process outlived the session
    Column("exit_code", Integer),
    Column("exit_signal", String),
    Column("app", String, nullable=False, server_default=""),  # the program behind it, if known
    _one_of("session_type", ConnectionType),
)
"""What ran over a connection. Keyed by both, so that no agent can write over another's."""

ide_sessions = Table(
    "ide_sessions",
    metadata,
    Column("connection_id", String, ForeignKey("connections.connection_id"), primary_key=True),
    Column("backend_pid", Integer, nullable=False),
    Column("backend_marker", String, nullable=False),  # what gave the backend away
    Column("caused_by", String, nullable=False),  # the connection whose end explains its own, or ''
    Column("channels", JSON_COLUMN, nullable=False),  # the first forwarded connections, bounded
    Column("channels_total", Integer, nullable=False),
)
"""What is known of an IDE session beyond its row in `connections`."""

forwards = Table(
    "forwards",
    metadata,
    Column("id", SEQ, primary_key=True, autoincrement=True),
    Column("connection_id", String, ForeignKey("connections.connection_id"), nullable=False),
    Column("forward_id", Integer),  # counts up within the connection; NULL: a roll-up of many
    Column("kind", String, nullable=False),  # a ForwardKind, or a word of a newer agent
    Column("destination", String, nullable=False),  # '*': too many to be told apart
    Column("origin", String, nullable=False, server_default=""),
    Column("started_at", Double, nullable=False),  # the agent's clock; a roll-up's first
    Column("ended_at", Double),  # NULL: open; a roll-up's last report
    Column("duration_s", Double, nullable=False, server_default="0"),  # a roll-up's longest
    Column("started", Integer, nullable=False, server_default="1"),  # how many it stands for
    Column("ended", Integer, nullable=False, server_default="0"),
    Column("ends", JSON_COLUMN, nullable=False),  # ForwardEnd, or a newer agent's word -> how often
    Column("cause", String, nullable=False, server_default=""),  # where it is more than the end
    Column("detail", String, nullable=False, server_default=""),
    Column("rx_bytes", BigInteger, nullable=False, server_default="0"),
    Column("tx_bytes", BigInteger, nullable=False, server_default="0"),
    Index("uq_forwards_connection_id_forward_id", "connection_id", "forward_id", unique=True),
    sqlite_autoincrement=True,
)
"""Forwarded connections: the first ones one by one, the others counted per kind and destination."""

file_operations = Table(
    "file_operations",
    metadata,
    Column("connection_id", String, ForeignKey("connections.connection_id"), primary_key=True),
    Column("session_id", String, primary_key=True),
    Column("program", String, nullable=False),
    Column("operations", JSON_COLUMN, nullable=False),  # what was asked for, bounded by the agent
    Column("left_out", Integer, nullable=False),  # requests that were too many to be kept
    Column("complete", Boolean, nullable=False),  # false: the stream could not be followed
    Column("received_at", Double, nullable=False),
)
"""The audit of a session's file operations: what a client asked for, not what was done."""

report_cursors = Table(
    "report_cursors",
    metadata,
    Column("journal_id", String, primary_key=True),
    Column("reporter", String, primary_key=True),  # an agent's workspace_id, or `user:NAME`
    Column("seq", BigInteger, nullable=False),  # applied up to and including this item
    Column("updated_at", Double, nullable=False),
)
"""Keyed by both, so that nobody can move another's cursor by naming another's journal."""

runs = Table(
    "runs",
    metadata,
    Column("run_id", String, primary_key=True),  # the server's instance id
    Column("started_at", Double, nullable=False),
    Column("last_alive_at", Double, nullable=False),
    Column("stopped_cleanly_at", Double),  # NULL: it died, or it still runs
)

health = Table(
    "health",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("checked_at", Double, nullable=False),
)
"""One row that `/readyz` writes, to know that a write works."""
