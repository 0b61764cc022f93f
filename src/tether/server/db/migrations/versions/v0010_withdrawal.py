"""Which token a token was made with, and who withdrew a token or a signed-in browser.

Revision 0010. Law: as 0001. Columns are added in place, without rebuilding a table.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; of tokens that exist already, nobody knows it."""
    op.add_column("tokens", sa.Column("parent_id", sa.String()))
    op.add_column("tokens", sa.Column("revoked_by", sa.String()))
    op.add_column("web_sessions", sa.Column("revoked_by", sa.String()))
    op.create_index("ix_tokens_parent_id", "tokens", ["parent_id"])


def downgrade() -> None:
    """Drop them."""
    op.drop_index("ix_tokens_parent_id", "tokens")
    op.drop_column("web_sessions", "revoked_by")
    op.drop_column("tokens", "revoked_by")
    op.drop_column("tokens", "parent_id")
