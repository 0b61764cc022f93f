"""Roll-ups of ends for the report, kept by triggers, and indexes in the order of what reads them.

Revision 0005. Law: as 0001. Counts what is closed already: one pass over the log.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from tether.server.db.statements import read_statements

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TYPES: dict[str, Any] = {
    "hour": sa.Integer(),
    "day": sa.Integer(),
    "month": sa.Integer(),
    "kind_id": _ID,
    "place_id": _ID,
    "expected": sa.Boolean(),
    "unexplained": sa.Boolean(),
}
_NAMES = (
    "connections_end_inserted",
    "connections_end_deleted",
    "connections_end_left",
    "connections_end_came",
)

_INDEXED = (
    "incident_id",
    "disconnected_at",
    "type",
    "disconnect_cause",
    "disconnect_reason",
    "disconnect_initiator",
    "disconnect_expected",
    "workspace_id",
    "workspace",
    "user",
    "status",
)
_TRIED = ("disconnect_cause", "disconnect_reason", "disconnect_expected", "type")
_LISTED = (
    "workspace",
    "user",
    "type",
    "disconnect_reason",
    "disconnect_cause",
    "disconnect_initiator",
    "disconnect_expected",
)


def upgrade() -> None:
    """Make the tables, count what is there, and have the rest counted as it comes."""
    _create_tables()
    op.drop_index(op.f("ix_connections_incident_id"), "connections")
    op.create_index(
        "ix_connections_incident",
        "connections",
        list(_INDEXED),
        sqlite_where=sa.text("incident_id IS NOT NULL"),
        postgresql_where=sa.text("incident_id IS NOT NULL"),
    )
    for name in _LISTED:
        op.drop_index(op.f(f"ix_connections_{name}_seq"), "connections")
        more = _TRIED if name in ("workspace", "user") else ()
        op.create_index(
            op.f(f"ix_connections_{name}_created_at"), "connections", [name, "created_at", *more]
        )
    run_file("report_count_v0005.sql")
    if op.get_bind().dialect.name == "sqlite":
        run_file("report_triggers_v0005.sql")


def run_file(name: str) -> None:
    """Execute the statements of a file."""
    for statement in read_statements(name):
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    """Drop them."""
    if op.get_bind().dialect.name == "sqlite":
        for name in _NAMES:
            op.execute(f"DROP TRIGGER {name}")
    for table in (
        "ends_by_place_month",
        "ends_by_place_day",
        "ends_by_day",
        "ends_by_hour",
        "end_places",
        "end_kinds",
    ):
        op.drop_table(table)
    for name in _LISTED:
        op.drop_index(op.f(f"ix_connections_{name}_created_at"), "connections")
        op.create_index(op.f(f"ix_connections_{name}_seq"), "connections", [name, "seq"])
    op.drop_index("ix_connections_incident", "connections")
    op.create_index(op.f("ix_connections_incident_id"), "connections", ["incident_id"])


def _create_tables() -> None:
    op.create_table(
        "end_kinds",
        sa.Column("kind_id", _ID, autoincrement=True, nullable=False),
        *(sa.Column(name, sa.String(), nullable=False) for name in ("type", "cause", "reason")),
        sa.Column("initiator", sa.String(), nullable=False),
        sa.Column("expected", sa.Boolean(), nullable=False),
        sa.Column("relay", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("kind_id", name=op.f("pk_end_kinds")),
        sa.UniqueConstraint(
            *("type", "cause", "reason", "initiator", "expected", "relay"),
            name=op.f("uq_end_kinds_type_cause_reason_initiator_expected_relay"),
        ),
    )
    op.create_table(
        "end_places",
        sa.Column("place_id", _ID, autoincrement=True, nullable=False),
        *(sa.Column(n, sa.String(), nullable=False) for n in ("workspace_id", "workspace", "user")),
        sa.PrimaryKeyConstraint("place_id", name=op.f("pk_end_places")),
        sa.UniqueConstraint(
            *("workspace_id", "workspace", "user"),
            name=op.f("uq_end_places_workspace_id_workspace_user"),
        ),
    )
    for table, key in (
        ("ends_by_hour", ("hour", "kind_id")),
        ("ends_by_day", ("day", "kind_id")),
        ("ends_by_place_day", ("day", "place_id", "expected", "unexplained")),
        ("ends_by_place_month", ("month", "place_id", "expected", "unexplained")),
    ):
        op.create_table(
            table,
            *(sa.Column(name, _TYPES[name], autoincrement=False, nullable=False) for name in key),
            sa.Column("ends", sa.BigInteger(), nullable=False),
            sa.Column("lived_ms", sa.BigInteger(), nullable=False),
            sa.PrimaryKeyConstraint(*key, name=op.f(f"pk_{table}")),
            sqlite_with_rowid=False,
        )
