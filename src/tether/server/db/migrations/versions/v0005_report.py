"""Roll-ups of ends for the report, kept by triggers, and indexes in the order of what reads them.

Revision 0005. Law: as 0001. Counts what is closed already: one pass over the log.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

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

_KIND_COLUMNS = '"type", "cause", "reason", "initiator", "expected", "relay"'
_KIND_VALUES = (
    '{row}."type", {row}."disconnect_cause", {row}."disconnect_reason",'
    ' {row}."disconnect_initiator", {row}."disconnect_expected",'
    " coalesce({row}.\"relay_region\", '')"
)
_PLACE_COLUMNS = '"workspace_id", "workspace", "user"'
_PLACE_VALUES = (
    "coalesce({row}.\"workspace_id\", ''), coalesce({row}.\"workspace\", ''),"
    " coalesce({row}.\"user\", '')"
)
_IS_KIND = (
    '"type" = {row}."type" AND "cause" = {row}."disconnect_cause"'
    ' AND "reason" = {row}."disconnect_reason" AND "initiator" = {row}."disconnect_initiator"'
    ' AND "expected" = {row}."disconnect_expected"'
    ' AND "relay" = coalesce({row}."relay_region", \'\')'
)
_IS_PLACE = (
    '"workspace_id" = coalesce({row}."workspace_id", \'\')'
    ' AND "workspace" = coalesce({row}."workspace", \'\')'
    ' AND "user" = coalesce({row}."user", \'\')'
)
_LIVED = (
    "CAST(round(({row}.disconnected_at - coalesce({row}.connected_at, {row}.disconnected_at))"
    " * 1000) AS INTEGER)"
)
_HOUR = "(CAST({row}.disconnected_at AS INTEGER) / 3600)"
_DAY = "(CAST({row}.disconnected_at AS INTEGER) / 86400)"
_MONTH = "(CAST({row}.disconnected_at AS INTEGER) / 2592000)"
_ADD = "DO UPDATE SET ends = ends + 1, lived_ms = lived_ms + excluded.lived_ms;"

_KIND = f"FROM end_kinds WHERE {_IS_KIND}"
_PLACE = f"FROM end_places WHERE {_IS_PLACE}"
_ROLL_UPS = (
    ("ends_by_hour", "hour, kind_id", f"{_HOUR}, kind_id", _KIND),
    ("ends_by_day", "day, kind_id", f"{_DAY}, kind_id", _KIND),
    (
        "ends_by_place_day",
        "day, place_id, expected, unexplained",
        f"{_DAY}, place_id, {{row}}.disconnect_expected, {{row}}.disconnect_reason = 'unknown'",
        _PLACE,
    ),
    (
        "ends_by_place_month",
        "month, place_id, expected, unexplained",
        f"{_MONTH}, place_id, {{row}}.disconnect_expected, {{row}}.disconnect_reason = 'unknown'",
        _PLACE,
    ),
)
_MORE = " ".join(
    (
        f"INSERT INTO end_kinds ({_KIND_COLUMNS}) VALUES ({_KIND_VALUES}) ON CONFLICT DO NOTHING;",
        f"INSERT INTO end_places ({_PLACE_COLUMNS}) VALUES ({_PLACE_VALUES})"
        " ON CONFLICT DO NOTHING;",
        *(
            f"INSERT INTO {table} ({key}, ends, lived_ms) SELECT {values}, 1, {_LIVED} {source}"
            f" ON CONFLICT ({key}) {_ADD}"
            for table, key, values, source in _ROLL_UPS
        ),
    )
)
_LESS = " ".join(
    f"UPDATE {table} SET ends = ends - 1, lived_ms = lived_ms - {_LIVED}"
    f" WHERE ({key}) = (SELECT {values} {source});"
    f" DELETE FROM {table} WHERE ({key}) = (SELECT {values} {source}) AND ends = 0;"
    for table, key, values, source in _ROLL_UPS
)
_WATCHED = (
    'UPDATE OF "status", "type", "disconnect_cause", "disconnect_reason", "disconnect_initiator",'
    ' "disconnect_expected", "relay_region", "workspace_id", "workspace", "user", "connected_at",'
    ' "disconnected_at"'
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
    _count()
    if op.get_bind().dialect.name != "sqlite":
        return
    for name, when, row, body in zip(
        _NAMES,
        ("INSERT", "DELETE", _WATCHED, _WATCHED),
        ("NEW", "OLD", "OLD", "NEW"),
        (_MORE, _LESS, _LESS, _MORE),
        strict=True,
    ):
        op.get_bind().exec_driver_sql(
            f"CREATE TRIGGER {name} AFTER {when} ON connections"
            f" WHEN {row}.status = 'closed' BEGIN {body.format(row=row)} END"
        )


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


def _count() -> None:
    bind, row = op.get_bind(), "connections"
    closed = "FROM connections WHERE connections.status = 'closed'"
    of_kind = f"JOIN end_kinds ON {_qualified(_IS_KIND.format(row=row), 'end_kinds')}"
    of_place = f"JOIN end_places ON {_qualified(_IS_PLACE.format(row=row), 'end_places')}"
    counted = f"count(*), sum({_LIVED}) FROM connections"
    grouped = "WHERE connections.status = 'closed' GROUP BY"
    for statement in (
        f"INSERT INTO end_kinds ({_KIND_COLUMNS}) SELECT DISTINCT {_KIND_VALUES} {closed}",
        f"INSERT INTO end_places ({_PLACE_COLUMNS}) SELECT DISTINCT {_PLACE_VALUES} {closed}",
        "INSERT INTO ends_by_hour (hour, kind_id, ends, lived_ms)"
        f" SELECT {_HOUR}, kind_id, {counted} {of_kind} {grouped} 1, 2",
        "INSERT INTO ends_by_day (day, kind_id, ends, lived_ms)"
        " SELECT hour / 24, kind_id, sum(ends), sum(lived_ms) FROM ends_by_hour GROUP BY 1, 2",
        "INSERT INTO ends_by_place_day (day, place_id, expected, unexplained, ends, lived_ms)"
        f" SELECT {_DAY}, place_id, disconnect_expected, disconnect_reason = 'unknown', {counted}"
        f" {of_place} {grouped} 1, 2, 3, 4",
        "INSERT INTO ends_by_place_month (month, place_id, expected, unexplained, ends, lived_ms)"
        " SELECT day / 30, place_id, expected, unexplained, sum(ends), sum(lived_ms)"
        " FROM ends_by_place_day GROUP BY 1, 2, 3, 4",
    ):
        bind.exec_driver_sql(statement.format(row=row))


def _qualified(condition: str, table: str) -> str:
    """The condition with its own columns, which a row of the log has too, named in full."""
    return " AND ".join(f"{table}.{part}" for part in condition.split(" AND "))
