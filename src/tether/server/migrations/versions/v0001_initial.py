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


def upgrade() -> None:
    op.create_table(
        "health",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("checked_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_health")),
    )
    op.create_table(
        "report_cursors",
        sa.Column("journal_id", sa.String(), nullable=False),
        sa.Column(
            "reporter", sa.String(), nullable=False, comment="an agent's workspace_id, or a user"
        ),
        sa.Column(
            "seq", sa.BigInteger(), nullable=False, comment="applied up to and including this item"
        ),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("journal_id", name=op.f("pk_report_cursors")),
    )
    op.create_table(
        "runs",
        sa.Column("run_id", sa.String(), nullable=False, comment="the server's instance id"),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("last_alive_at", sa.Double(), nullable=False),
        sa.Column(
            "stopped_cleanly_at",
            sa.Double(),
            nullable=True,
            comment="NULL: it died, or it still runs",
        ),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_runs")),
    )
    op.create_table(
        "users",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column(
            "revoked_at", sa.Double(), nullable=True, comment="NULL while the user has access"
        ),
        sa.Column("revoked_by", sa.String(), nullable=True, comment="an actor, `admin:NAME`"),
        sa.CheckConstraint("\"role\" IN ('admin', 'member')", name=op.f("ck_users_role_word")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_users")),
    )
    op.create_table(
        "workspaces",
        sa.Column("workspace_id", sa.String(), nullable=False),
        sa.Column(
            "name", sa.String(), nullable=False, comment="unique among those that are not deleted"
        ),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("deleted_at", sa.Double(), nullable=True),
        sa.Column(
            "host_key",
            sa.String(),
            nullable=True,
            comment="public SSH host key that its agent announced",
        ),
        sa.Column("agent_version", sa.String(), nullable=True),
        sa.Column("agent_hostname", sa.String(), nullable=True),
        sa.Column(
            "agent_first_seen_at",
            sa.Double(),
            nullable=True,
            comment="NULL: no agent has ever connected",
        ),
        sa.Column("agent_last_seen_at", sa.Double(), nullable=True),
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
    op.create_table(
        "connections",
        sa.Column(
            "seq",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
            comment="order of creation: paging",
        ),
        sa.Column("connection_id", sa.String(), nullable=False, comment="uuid4, hexadecimal"),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("connect_type", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("workspace_id", sa.String(), nullable=True),
        sa.Column("workspace", sa.String(), nullable=True, comment="its name at that time"),
        sa.Column("agent", sa.String(), nullable=True, comment="the agent's host name"),
        sa.Column("user", sa.String(), nullable=True),
        sa.Column("client_ip", sa.String(), nullable=True),
        sa.Column("connection_method", sa.String(), server_default="", nullable=False),
        sa.Column("client_session_id", sa.String(), nullable=True),
        sa.Column(
            "journal_id",
            sa.String(),
            nullable=True,
            comment="the agent's journal that answers for this row",
        ),
        sa.Column(
            "agent_instance",
            sa.String(),
            nullable=True,
            comment="the agent's run that was offered it",
        ),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("connected_at", sa.Double(), nullable=True),
        sa.Column("disconnected_at", sa.Double(), nullable=True),
        sa.Column("rx_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("tx_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("disconnect_reason", sa.String(), nullable=True),
        sa.Column("disconnect_expected", sa.Boolean(), nullable=True),
        sa.Column("disconnect_initiator", sa.String(), nullable=True),
        sa.Column("disconnect_detail", sa.String(), nullable=True),
        sa.Column(
            "disconnect_cause", sa.String(), nullable=True, comment="a code of attribution.causes"
        ),
        sa.Column("disconnect_basis", sa.String(), nullable=True),
        sa.Column("disconnect_actor", sa.String(), nullable=True),
        sa.Column(
            "coarse_reason", sa.String(), nullable=True, comment="the word of the public vocabulary"
        ),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("exit_signal", sa.String(), nullable=True),
        sa.Column(
            "rule", sa.String(), nullable=True, comment="the rule of attribution.rules that decided"
        ),
        sa.Column("incident_id", sa.String(), nullable=True),
        sa.Column("revision", sa.Integer(), server_default="0", nullable=False),
        sa.CheckConstraint(
            "status <> 'closed' OR (disconnected_at IS NOT NULL AND "
            "disconnect_reason IS NOT NULL AND disconnect_expected IS NOT NULL AND "
            "disconnect_initiator IS NOT NULL AND disconnect_cause IS NOT NULL AND "
            "disconnect_basis IS NOT NULL AND coarse_reason IS NOT NULL AND rule IS"
            " NOT NULL)",
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
            "\"disconnect_reason\" IN ('graceful', 'client_closed', "
            "'server_shutdown', 'network_error', 'protocol_error', "
            "'workspace_stopped', 'control_plane_lost', 'unknown', 'idle_timeout', "
            "'session_expired', 'access_revoked', 'superseded', "
            "'resource_exhausted', 'process_crashed', 'peer_unresponsive', "
            "'client_suspended', 'path_changed')",
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
    op.create_table(
        "intents",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("workspace_id", sa.String(), nullable=True),
        sa.Column(
            "subject",
            sa.String(),
            nullable=False,
            comment="name of the workspace or user at that time",
        ),
        sa.Column(
            "cause", sa.String(), nullable=False, comment="catalogue code, or '' where nothing ends"
        ),
        sa.Column(
            "actor",
            sa.String(),
            nullable=False,
            comment="on whose behalf: what the record will show",
        ),
        sa.Column(
            "requested_by", sa.String(), nullable=False, comment="who really asked: user:, admin:"
        ),
        sa.Column("at", sa.Double(), nullable=False),
        sa.CheckConstraint(
            "\"kind\" IN ('create', 'start', 'stop', 'evict', 'delete', "
            "'rotate_token', 'create_user', 'revoke_user')",
            name=op.f("ck_intents_kind_word"),
        ),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["workspaces.workspace_id"], name=op.f("fk_intents_workspace_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_intents")),
        sqlite_autoincrement=True,
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_intents_workspace_id_at"), "intents", ["workspace_id", "at"], unique=False
    )
    op.create_table(
        "tokens",
        sa.Column("token_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("token_hash", sa.String(), nullable=False, comment="SHA-256, hexadecimal"),
        sa.Column("user", sa.String(), nullable=True, comment="of a user token"),
        sa.Column("workspace_id", sa.String(), nullable=True, comment="of an agent token"),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=True, comment="NULL: never"),
        sa.Column("revoked_at", sa.Double(), nullable=True),
        sa.Column(
            "last_used_at",
            sa.Double(),
            nullable=True,
            comment="written in batches; may lag by a minute",
        ),
        sa.CheckConstraint("\"kind\" IN ('user', 'agent')", name=op.f("ck_tokens_kind_word")),
        sa.CheckConstraint(
            "(kind = 'user' AND \"user\" IS NOT NULL AND workspace_id IS NULL) OR "
            "(kind = 'agent' AND \"user\" IS NULL AND workspace_id IS NOT NULL)",
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
    op.create_table(
        "evidence",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("connection_id", sa.String(), nullable=False),
        sa.Column("reporter", sa.String(), nullable=False, comment="the vantage that sent it"),
        sa.Column("received_at", sa.Double(), nullable=False, comment="the server's clock"),
        sa.Column(
            "facts",
            sa.JSON().with_variant(postgresql.JSONB(astext_type=Text()), "postgresql"),
            nullable=False,
            comment="a list of evidence.to_record",
        ),
        sa.Column(
            "symptoms",
            sa.JSON().with_variant(postgresql.JSONB(astext_type=Text()), "postgresql"),
            nullable=False,
            comment="a list of evidence.to_record",
        ),
        sa.CheckConstraint(
            "\"reporter\" IN ('client', 'relay', 'server', 'agent')",
            name=op.f("ck_evidence_reporter_word"),
        ),
        sa.ForeignKeyConstraint(
            ["connection_id"], ["connections.connection_id"], name=op.f("fk_evidence_connection_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evidence")),
        sqlite_autoincrement=True,
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_evidence_connection_id"), "evidence", ["connection_id"], unique=False)
    op.create_table(
        "revisions",
        sa.Column("connection_id", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("as_of", sa.Double(), nullable=False),
        sa.Column("rule", sa.String(), nullable=False),
        sa.Column("because", sa.String(), nullable=False),
        sa.Column(
            "fields",
            sa.JSON().with_variant(postgresql.JSONB(astext_type=Text()), "postgresql"),
            nullable=False,
            comment="the disconnect fields of this judgement",
        ),
        sa.ForeignKeyConstraint(
            ["connection_id"],
            ["connections.connection_id"],
            name=op.f("fk_revisions_connection_id"),
        ),
        sa.PrimaryKeyConstraint("connection_id", "revision", name=op.f("pk_revisions")),
    )
    op.create_table(
        "sessions",
        sa.Column("connection_id", sa.String(), nullable=False),
        sa.Column("session_id", sa.String(), nullable=False, comment="chosen by the agent"),
        sa.Column("session_type", sa.String(), nullable=False),
        sa.Column("pty", sa.Boolean(), nullable=False),
        sa.Column("subsystem", sa.String(), server_default="", nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("exit_signal", sa.String(), nullable=True),
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


def downgrade() -> None:
    op.drop_table("sessions")
    op.drop_table("revisions")
    op.drop_index(op.f("ix_evidence_connection_id"), table_name="evidence")
    op.drop_table("evidence")
    op.drop_index(op.f("ix_tokens_workspace_id"), table_name="tokens")
    op.drop_index(op.f("ix_tokens_user"), table_name="tokens")
    op.drop_table("tokens")
    op.drop_index(op.f("ix_intents_workspace_id_at"), table_name="intents")
    op.drop_table("intents")
    op.drop_index(op.f("ix_connections_workspace_seq"), table_name="connections")
    op.drop_index(op.f("ix_connections_workspace_id_seq"), table_name="connections")
    op.drop_index(op.f("ix_connections_user_seq"), table_name="connections")
    op.drop_index(op.f("ix_connections_type_seq"), table_name="connections")
    op.drop_index(
        "ix_connections_open",
        table_name="connections",
        sqlite_where=sa.text("status <> 'closed'"),
        postgresql_where=sa.text("status <> 'closed'"),
    )
    op.drop_index(op.f("ix_connections_incident_id"), table_name="connections")
    op.drop_index(op.f("ix_connections_disconnected_at"), table_name="connections")
    op.drop_index(op.f("ix_connections_disconnect_reason_seq"), table_name="connections")
    op.drop_index(op.f("ix_connections_disconnect_initiator_seq"), table_name="connections")
    op.drop_index(op.f("ix_connections_disconnect_expected_seq"), table_name="connections")
    op.drop_index(op.f("ix_connections_disconnect_cause_seq"), table_name="connections")
    op.drop_index(op.f("ix_connections_created_at"), table_name="connections")
    op.drop_table("connections")
    op.drop_index(
        "uq_workspaces_live_name",
        table_name="workspaces",
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.drop_index(op.f("ix_workspaces_owner"), table_name="workspaces")
    op.drop_table("workspaces")
    op.drop_table("users")
    op.drop_table("runs")
    op.drop_table("report_cursors")
    op.drop_table("health")
