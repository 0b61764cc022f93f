"""Incidents, the cause that an end itself shows, how far a judgement is trusted, and what rows share.

Revision 0004. Law: as 0001. Columns are added in place, without rebuilding a table.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_COLUMNS = (
    "node_id",
    "relay_region",
    "proximate_cause",
    "confidence",
    "root_event_id",
    "incident_key",
)


def upgrade() -> None:
    """Add the columns, their indexes and the table."""
    for name in _COLUMNS:
        op.add_column("connections", sa.Column(name, sa.String()))
    op.create_index(op.f("ix_connections_node_id"), "connections", ["node_id"])
    op.create_index(
        "ix_connections_incident_key",
        "connections",
        ["incident_key", "disconnected_at"],
        sqlite_where=sa.text("incident_key IS NOT NULL"),
        postgresql_where=sa.text("incident_key IS NOT NULL"),
    )
    op.create_table(
        "incidents",
        sa.Column("incident_id", sa.String(), nullable=False),
        sa.Column("element", sa.String(), nullable=False),
        sa.Column("cause", sa.String(), nullable=False),
        sa.Column("root_event_id", sa.String(), nullable=False),
        sa.Column("began_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("incident_id", name=op.f("pk_incidents")),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("incidents")
    op.drop_index("ix_connections_incident_key", "connections")
    op.drop_index(op.f("ix_connections_node_id"), "connections")
    for name in reversed(_COLUMNS):
        op.drop_column("connections", name)
