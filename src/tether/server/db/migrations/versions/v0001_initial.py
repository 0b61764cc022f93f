"""The initial schema.

Revision 0001. Law: frozen once released; words are spelt out here, not imported, so that this file
keeps its meaning when the vocabulary grows.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Make every table, those that others refer to first."""
    _create_health()
    _create_report_cursors()
    _create_runs()
    _create_users()
    _create_workspaces()
    _create_connections()
    _create_intents()
    _create_tokens()
    _create_evidence()
    _create_revisions()
    _create_sessions()


def downgrade() -> None:
    """Drop every table, those that refer to others first."""
    for table in (
        "sessions",
        "revisions",
        "evidence",
        "tokens",
        "intents",
        "connections",
        "workspaces",
        "users",
        "runs",
        "report_cursors",
        "health",
    ):
        op.drop_table(table)


def _create_health() -> None:
    op.create_table(
        "health",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("checked_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_health")),
    )


def _create_report_cursors() -> None:
    op.create_table(
        "report_cursors",
        sa.Column("journal_id", sa.String(), nullable=False),
        sa.Column("reporter", sa.String(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("journal_id", "reporter", name=op.f("pk_report_cursors")),
    )


def _create_runs() -> None:
    op.create_table(
        "runs",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("last_alive_at", sa.Double(), nullable=False),
        sa.Column("stopped_cleanly_at", sa.Double()),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_runs")),
    )


def _create_users() -> None:
    op.create_table(
        "users",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("revoked_at", sa.Double()),
        sa.Column("revoked_by", sa.String()),
        sa.CheckConstraint("\"role\" IN ('admin', 'member')", name=op.f("ck_users_role_word")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_users")),
    )


def _create_workspaces() -> None:
    op.create_table(
        "workspaces",
        sa.Column("workspace_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("deleted_at", sa.Double()),
        sa.Column("host_key", sa.String()),
        sa.Column("agent_version", sa.String()),
        sa.Column("agent_hostname", sa.String()),
        sa.Column("agent_first_seen_at", sa.Double()),
        sa.Column("agent_last_seen_at", sa.Double()),
        sa.CheckConstraint(
            "\"state\" IN ('running', 'stopped')", name=op.f("ck_workspaces_state_word")
        ),
        sa.ForeignKeyConstraint(["owner"], ["users.name"], name=op.f("fk_workspaces_owner")),
        sa.PrimaryKeyConstraint("workspace_id", name=op.f("pk_workspaces")),
    )
    op.create_index(op.f("ix_workspaces_owner"), "workspaces", ["owner"], unique=False)
    op.create_index(
        "uq_workspaces_live_name",
        "workspaces",
        ["name"],
        unique=True,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )


def _create_connections() -> None:
    op.create_table(
        "connections",
        sa.Column("seq", _SEQ, autoincrement=True, nullable=False),
        sa.Column("connection_id", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("connect_type", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("workspace_id", sa.String()),
        sa.Column("workspace", sa.String()),
        sa.Column("agent", sa.String()),
        sa.Column("user", sa.String()),
        sa.Column("client_ip", sa.String()),
        sa.Column("connection_method", sa.String(), server_default="", nullable=False),
        sa.Column("client_session_id", sa.String()),
        sa.Column("journal_id", sa.String()),
        sa.Column("agent_instance", sa.String()),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("connected_at", sa.Double()),
        sa.Column("disconnected_at", sa.Double()),
        sa.Column("rx_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("tx_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("disconnect_reason", sa.String()),
        sa.Column("disconnect_expected", sa.Boolean()),
        sa.Column("disconnect_initiator", sa.String()),
        sa.Column("disconnect_detail", sa.String()),
        sa.Column("disconnect_cause", sa.String()),
        sa.Column("disconnect_basis", sa.String()),
        sa.Column("disconnect_actor", sa.String()),
        sa.Column("coarse_reason", sa.String()),
        sa.Column("exit_code", sa.Integer()),
        sa.Column("exit_signal", sa.String()),
        sa.Column("rule", sa.String()),
        sa.Column("incident_id", sa.String()),
        sa.Column("revision", sa.Integer(), server_default="0", nullable=False),
        sa.CheckConstraint(
            "status <> 'closed' OR (disconnected_at IS NOT NULL AND disconnect_reason IS"
            " NOT NULL AND disconnect_expected IS NOT NULL AND disconnect_initiator IS "
            "NOT NULL AND disconnect_cause IS NOT NULL AND disconnect_basis IS NOT NULL "
            "AND coarse_reason IS NOT NULL AND rule IS NOT NULL)",
            name=op.f("ck_connections_closed_is_attributed"),
        ),
        sa.CheckConstraint(
            "status = 'closed' OR (disconnected_at IS NULL AND disconnect_reason IS NULL)",
            name=op.f("ck_connections_open_is_not_ended"),
        ),
        sa.CheckConstraint(
            "\"coarse_reason\" IN ('graceful', 'client_closed', 'server_shutdown', "
            "'network_error', 'protocol_error', 'workspace_stopped', "
            "'control_plane_lost', 'unknown')",
            name=op.f("ck_connections_coarse_reason_word"),
        ),
        sa.CheckConstraint(
            "\"connect_type\" IN ('server_to_agent', 'agent_to_client', 'client_to_server')",
            name=op.f("ck_connections_connect_type_word"),
        ),
        sa.CheckConstraint(
            "\"connection_method\" IN ('direct', 'derp', '')",
            name=op.f("ck_connections_connection_method_word"),
        ),
        sa.CheckConstraint(
            "\"disconnect_basis\" IN ('declared', 'observed', 'inferred')",
            name=op.f("ck_connections_disconnect_basis_word"),
        ),
        sa.CheckConstraint(
            "\"disconnect_initiator\" IN ('client', 'agent', 'server', 'network', '')",
            name=op.f("ck_connections_disconnect_initiator_word"),
        ),
        sa.CheckConstraint(
            "\"disconnect_reason\" IN ('graceful', 'client_closed', 'server_shutdown', "
            "'network_error', 'protocol_error', 'workspace_stopped', "
            "'control_plane_lost', 'unknown', 'idle_timeout', 'session_expired', "
            "'access_revoked', 'superseded', 'resource_exhausted', 'process_crashed', "
            "'peer_unresponsive', 'client_suspended', 'path_changed')",
            name=op.f("ck_connections_disconnect_reason_word"),
        ),
        sa.CheckConstraint(
            "\"status\" IN ('pending', 'ongoing', 'closed')",
            name=op.f("ck_connections_status_word"),
        ),
        sa.CheckConstraint(
            "\"type\" IN ('ssh', 'vscode', 'jetbrains', 'reconnecting_pty', "
            "'port_forward', 'sftp', 'tunnel', 'control')",
            name=op.f("ck_connections_type_word"),
        ),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["workspaces.workspace_id"], name=op.f("fk_connections_workspace_id")
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_connections")),
        sa.UniqueConstraint("connection_id", name=op.f("uq_connections_connection_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_connections_created_at"), "connections", ["created_at"], unique=False)
    op.create_index(
        op.f("ix_connections_disconnect_cause_seq"),
        "connections",
        ["disconnect_cause", "seq"],
        unique=False,
    )
    op.create_index(
        op.f("ix_connections_disconnect_expected_seq"),
        "connections",
        ["disconnect_expected", "seq"],
        unique=False,
    )
    op.create_index(
        op.f("ix_connections_disconnect_initiator_seq"),
        "connections",
        ["disconnect_initiator", "seq"],
        unique=False,
    )
    op.create_index(
        op.f("ix_connections_disconnect_reason_seq"),
        "connections",
        ["disconnect_reason", "seq"],
        unique=False,
    )
    op.create_index(
        op.f("ix_connections_disconnected_at"), "connections", ["disconnected_at"], unique=False
    )
    op.create_index(
        op.f("ix_connections_incident_id"), "connections", ["incident_id"], unique=False
    )
    op.create_index(
        "ix_connections_open",
        "connections",
        ["status", "workspace_id"],
        unique=False,
        sqlite_where=sa.text("status <> 'closed'"),
        postgresql_where=sa.text("status <> 'closed'"),
    )
    op.create_index(op.f("ix_connections_type_seq"), "connections", ["type", "seq"], unique=False)
    op.create_index(op.f("ix_connections_user_seq"), "connections", ["user", "seq"], unique=False)
    op.create_index(
        op.f("ix_connections_workspace_id_seq"),
        "connections",
        ["workspace_id", "seq"],
        unique=False,
    )
    op.create_index(
        op.f("ix_connections_workspace_seq"), "connections", ["workspace", "seq"], unique=False
    )


def _create_intents() -> None:
    op.create_table(
        "intents",
        sa.Column("id", _SEQ, autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("workspace_id", sa.String()),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("cause", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("requested_by", sa.String(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.CheckConstraint(
            "\"kind\" IN ('create', 'start', 'stop', 'evict', 'delete', 'rotate_token', "
            "'create_user', 'revoke_user')",
            name=op.f("ck_intents_kind_word"),
        ),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["workspaces.workspace_id"], name=op.f("fk_intents_workspace_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_intents")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_intents_workspace_id_at"), "intents", ["workspace_id", "at"], unique=False
    )


def _create_tokens() -> None:
    op.create_table(
        "tokens",
        sa.Column("token_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("token_hash", sa.String(), nullable=False),
        sa.Column("user", sa.String()),
        sa.Column("workspace_id", sa.String()),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double()),
        sa.Column("revoked_at", sa.Double()),
        sa.Column("last_used_at", sa.Double()),
        sa.CheckConstraint("\"kind\" IN ('user', 'agent')", name=op.f("ck_tokens_kind_word")),
        sa.CheckConstraint(
            "(kind = 'user' AND \"user\" IS NOT NULL AND workspace_id IS NULL) OR (kind = "
            "'agent' AND \"user\" IS NULL AND workspace_id IS NOT NULL)",
            name=op.f("ck_tokens_speaks_for_one"),
        ),
        sa.ForeignKeyConstraint(["user"], ["users.name"], name=op.f("fk_tokens_user")),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["workspaces.workspace_id"], name=op.f("fk_tokens_workspace_id")
        ),
        sa.PrimaryKeyConstraint("token_id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_tokens_token_hash")),
    )
    op.create_index(op.f("ix_tokens_user"), "tokens", ["user"], unique=False)
    op.create_index(op.f("ix_tokens_workspace_id"), "tokens", ["workspace_id"], unique=False)


def _create_evidence() -> None:
    op.create_table(
        "evidence",
        sa.Column("id", _SEQ, autoincrement=True, nullable=False),
        sa.Column("connection_id", sa.String(), nullable=False),
        sa.Column("reporter", sa.String(), nullable=False),
        sa.Column("received_at", sa.Double(), nullable=False),
        sa.Column("facts", _JSON, nullable=False),
        sa.Column("symptoms", _JSON, nullable=False),
        sa.CheckConstraint(
            "\"reporter\" IN ('client', 'relay', 'server', 'agent')",
            name=op.f("ck_evidence_reporter_word"),
        ),
        sa.ForeignKeyConstraint(
            ["connection_id"], ["connections.connection_id"], name=op.f("fk_evidence_connection_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evidence")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_evidence_connection_id"), "evidence", ["connection_id"], unique=False)


def _create_revisions() -> None:
    op.create_table(
        "revisions",
        sa.Column("connection_id", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("as_of", sa.Double(), nullable=False),
        sa.Column("rule", sa.String(), nullable=False),
        sa.Column("because", sa.String(), nullable=False),
        sa.Column("fields", _JSON, nullable=False),
        sa.ForeignKeyConstraint(
            ["connection_id"],
            ["connections.connection_id"],
            name=op.f("fk_revisions_connection_id"),
        ),
        sa.PrimaryKeyConstraint("connection_id", "revision", name=op.f("pk_revisions")),
    )


def _create_sessions() -> None:
    op.create_table(
        "sessions",
        sa.Column("connection_id", sa.String(), nullable=False),
        sa.Column("session_id", sa.String(), nullable=False),
        sa.Column("session_type", sa.String(), nullable=False),
        sa.Column("pty", sa.Boolean(), nullable=False),
        sa.Column("subsystem", sa.String(), server_default="", nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double()),
        sa.Column("exit_code", sa.Integer()),
        sa.Column("exit_signal", sa.String()),
        sa.CheckConstraint(
            "\"session_type\" IN ('ssh', 'vscode', 'jetbrains', 'reconnecting_pty', "
            "'port_forward', 'sftp', 'tunnel', 'control')",
            name=op.f("ck_sessions_session_type_word"),
        ),
        sa.ForeignKeyConstraint(
            ["connection_id"], ["connections.connection_id"], name=op.f("fk_sessions_connection_id")
        ),
        sa.PrimaryKeyConstraint("connection_id", "session_id", name=op.f("pk_sessions")),
    )
