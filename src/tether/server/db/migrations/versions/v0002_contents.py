"""IDE sessions as rows of their own, forwarded connections, file operations, and apps by name.

Revision 0002. Law: as 0001. Columns are added in place, without rebuilding a table: `connections` may
be large.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Add the columns and the tables."""
    op.add_column("connections", sa.Column("parent_id", sa.String()))
    op.add_column("connections", sa.Column("app", sa.String(), server_default="", nullable=False))
    op.create_index(op.f("ix_connections_parent_id"), "connections", ["parent_id"], unique=False)
    op.add_column("sessions", sa.Column("app", sa.String(), server_default="", nullable=False))
    op.add_column("sessions", sa.Column("process_ended_at", sa.Double()))
    _create_ide_sessions()
    _create_forwards()
    _create_file_operations()


def downgrade() -> None:
    """Drop them. Rows of IDE sessions stay in `connections`, without their parents."""
    for table in ("file_operations", "forwards", "ide_sessions"):
        op.drop_table(table)
    op.drop_column("sessions", "process_ended_at")
    op.drop_column("sessions", "app")
    op.drop_index(op.f("ix_connections_parent_id"), "connections")
    op.drop_column("connections", "app")
    op.drop_column("connections", "parent_id")


def _create_ide_sessions() -> None:
    op.create_table(
        "ide_sessions",
        sa.Column("connection_id", sa.String(), nullable=False),
        sa.Column("backend_pid", sa.Integer(), nullable=False),
        sa.Column("backend_marker", sa.String(), nullable=False),
        sa.Column("caused_by", sa.String(), nullable=False),
        sa.Column("channels", _JSON, nullable=False),
        sa.Column("channels_total", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["connection_id"],
            ["connections.connection_id"],
            name=op.f("fk_ide_sessions_connection_id"),
        ),
        sa.PrimaryKeyConstraint("connection_id", name=op.f("pk_ide_sessions")),
    )


def _create_forwards() -> None:
    op.create_table(
        "forwards",
        sa.Column("id", _SEQ, autoincrement=True, nullable=False),
        sa.Column("connection_id", sa.String(), nullable=False),
        sa.Column("forward_id", sa.Integer()),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("destination", sa.String(), nullable=False),
        sa.Column("origin", sa.String(), server_default="", nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double()),
        sa.Column("duration_s", sa.Double(), server_default="0", nullable=False),
        sa.Column("started", sa.Integer(), server_default="1", nullable=False),
        sa.Column("ended", sa.Integer(), server_default="0", nullable=False),
        sa.Column("ends", _JSON, nullable=False),
        sa.Column("cause", sa.String(), server_default="", nullable=False),
        sa.Column("detail", sa.String(), server_default="", nullable=False),
        sa.Column("rx_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("tx_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(
            ["connection_id"], ["connections.connection_id"], name=op.f("fk_forwards_connection_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_forwards")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "uq_forwards_connection_id_forward_id",
        "forwards",
        ["connection_id", "forward_id"],
        unique=True,
    )


def _create_file_operations() -> None:
    op.create_table(
        "file_operations",
        sa.Column("connection_id", sa.String(), nullable=False),
        sa.Column("session_id", sa.String(), nullable=False),
        sa.Column("program", sa.String(), nullable=False),
        sa.Column("operations", _JSON, nullable=False),
        sa.Column("left_out", sa.Integer(), nullable=False),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.Column("received_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["connection_id"],
            ["connections.connection_id"],
            name=op.f("fk_file_operations_connection_id"),
        ),
        sa.PrimaryKeyConstraint("connection_id", "session_id", name=op.f("pk_file_operations")),
    )
