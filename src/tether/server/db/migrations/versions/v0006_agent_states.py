"""What agents tell of their own lives.

Revision 0006. Law: as 0001. Columns are added in place, without rebuilding a table.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the table, and the newest state to the workspaces."""
    op.add_column("workspaces", sa.Column("agent_state", sa.String()))
    op.add_column("workspaces", sa.Column("agent_state_at", sa.Double()))
    op.create_table(
        "agent_states",
        sa.Column("id", _SEQ, autoincrement=True, nullable=False),
        sa.Column("workspace_id", sa.String(), nullable=False),
        sa.Column("instance_id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("received_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["workspace_id"],
            ["workspaces.workspace_id"],
            name=op.f("fk_agent_states_workspace_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_agent_states")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_agent_states_workspace_id"), "agent_states", ["workspace_id"])


def downgrade() -> None:
    """Drop them."""
    op.drop_table("agent_states")
    op.drop_column("workspaces", "agent_state_at")
    op.drop_column("workspaces", "agent_state")
