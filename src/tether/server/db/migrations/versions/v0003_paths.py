"""Path events of tunnels, evidence by carrier, the tokens of relays, and the DERP map.

Revision 0003. Law: as 0001. Columns are added in place, without rebuilding a table.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Add the columns and the tables."""
    op.add_column("connections", sa.Column("detached_since", sa.Double()))
    op.add_column("connections", sa.Column("carrier", sa.Integer()))
    op.add_column(
        "connections",
        sa.Column("path_events_total", sa.Integer(), server_default="0", nullable=False),
    )
    op.add_column("evidence", sa.Column("carrier", sa.Integer()))
    _create_path_events()
    op.create_table(
        "relay_tokens",
        sa.Column("token_id", sa.String(), nullable=False),
        sa.Column("token_hash", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("expires_at", sa.Double()),
        sa.Column("revoked_at", sa.Double()),
        sa.PrimaryKeyConstraint("token_id", name=op.f("pk_relay_tokens")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_relay_tokens_token_hash")),
    )
    op.create_table(
        "derp_map",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("regions", _JSON, nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("updated_by", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_derp_map")),
    )


def downgrade() -> None:
    """Drop them."""
    for table in ("derp_map", "relay_tokens", "path_events"):
        op.drop_table(table)
    op.drop_column("evidence", "carrier")
    for column in ("path_events_total", "carrier", "detached_since"):
        op.drop_column("connections", column)


def _create_path_events() -> None:
    op.create_table(
        "path_events",
        sa.Column("id", _SEQ, autoincrement=True, nullable=False),
        sa.Column("connection_id", sa.String(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("received_at", sa.Double(), nullable=False),
        sa.Column("event", sa.String(), nullable=False),
        sa.Column("carrier", sa.Integer(), nullable=False),
        sa.Column("method", sa.String(), nullable=False),
        sa.Column("region", sa.String(), nullable=False),
        sa.Column("peer", sa.String(), nullable=False),
        sa.Column("how", sa.String(), nullable=False),
        sa.Column("errno", sa.String(), nullable=False),
        sa.Column("gap_s", sa.Double(), nullable=False),
        sa.Column("resent_bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["connection_id"],
            ["connections.connection_id"],
            name=op.f("fk_path_events_connection_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_path_events")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_path_events_connection_id"), "path_events", ["connection_id"])
