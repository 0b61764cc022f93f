"""Which version a run of the server was of, and who has acknowledged an incident.

Revision 0008. Law: as 0001. Columns are added in place, without rebuilding a table.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, and what finds incidents by when they began."""
    op.add_column("runs", sa.Column("version", sa.String(), nullable=False, server_default=""))
    op.add_column("incidents", sa.Column("acknowledged_at", sa.Double()))
    op.add_column("incidents", sa.Column("acknowledged_by", sa.String()))
    op.create_index(op.f("ix_incidents_began_at"), "incidents", ["began_at"])


def downgrade() -> None:
    """Drop them."""
    op.drop_index(op.f("ix_incidents_began_at"), "incidents")
    op.drop_column("incidents", "acknowledged_by")
    op.drop_column("incidents", "acknowledged_at")
    op.drop_column("runs", "version")
