"""Which token a tunnel was granted for.

Revision 0009. Law: as 0001. The column is added in place, without rebuilding the table.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; of tunnels that are open already, nobody knows it."""
    op.add_column("connections", sa.Column("token_id", sa.String()))


def downgrade() -> None:
    """Drop it."""
    op.drop_column("connections", "token_id")
