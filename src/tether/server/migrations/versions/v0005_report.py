"""Roll-ups of ends for the report, kept by triggers, and an index that counts incidents.

Revision 0005. Law: as 0001. Counts what is closed already: one pass over the log.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
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
_ADD = "DO UPDATE SET ends = ends + 1, lived_ms = lived_ms + excluded.lived_ms;"

_MORE = (
    f"INSERT INTO end_kinds ({_KIND_COLUMNS}) VALUES ({_KIND_VALUES}) ON CONFLICT DO NOTHING;"
    f" INSERT INTO end_places ({_PLACE_COLUMNS}) VALUES ({_PLACE_VALUES}) ON CONFLICT DO NOTHING;"
    " INSERT INTO ends_by_hour (kind_id, hour, ends, lived_ms)"
    f" SELECT kind_id, {_HOUR}, 1, {_LIVED}"
    f" FROM end_kinds WHERE {_IS_KIND} ON CONFLICT (kind_id, hour) {_ADD}"
    " INSERT INTO ends_by_day (place_id, kind_id, day, ends, lived_ms)"
    f" SELECT place_id, kind_id, {_DAY}, 1, {_LIVED}"
    f" FROM end_places, end_kinds WHERE {_IS_PLACE} AND {_IS_KIND}"
    f" ON CONFLICT (place_id, kind_id, day) {_ADD}"
)
_ONE_KIND = f"kind_id = (SELECT kind_id FROM end_kinds WHERE {_IS_KIND})"
_ONE_PLACE = f"place_id = (SELECT place_id FROM end_places WHERE {_IS_PLACE})"
_IN_HOUR = f"{_ONE_KIND} AND hour = {_HOUR}"
_IN_DAY = f"{_ONE_PLACE} AND {_ONE_KIND} AND day = {_DAY}"
_TAKE = f"SET ends = ends - 1, lived_ms = lived_ms - {_LIVED}"
_LESS = (
    f"UPDATE ends_by_hour {_TAKE} WHERE {_IN_HOUR};"
    f" DELETE FROM ends_by_hour WHERE {_IN_HOUR} AND ends = 0;"
    f" UPDATE ends_by_day {_TAKE} WHERE {_IN_DAY};"
    f" DELETE FROM ends_by_day WHERE {_IN_DAY} AND ends = 0;"
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
    for table in ("ends_by_day", "ends_by_hour", "end_places", "end_kinds"):
        op.drop_table(table)
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
        ("ends_by_hour", ("kind_id", "hour")),
        ("ends_by_day", ("place_id", "kind_id", "day")),
    ):
        op.create_table(
            table,
            *(
                sa.Column(
                    name,
                    sa.Integer() if name in ("hour", "day") else _ID,
                    autoincrement=False,
                    nullable=False,
                )
                for name in key
            ),
            sa.Column("ends", sa.BigInteger(), nullable=False),
            sa.Column("lived_ms", sa.BigInteger(), nullable=False),
            sa.PrimaryKeyConstraint(*key, name=op.f(f"pk_{table}")),
            sqlite_with_rowid=False,
        )


def _count() -> None:
    bind, row = op.get_bind(), "connections"
    closed = "FROM connections WHERE connections.status = 'closed'"
    kind, place = _IS_KIND.format(row=row), _IS_PLACE.format(row=row)
    for statement in (
        f"INSERT INTO end_kinds ({_KIND_COLUMNS}) SELECT DISTINCT {_KIND_VALUES} {closed}",
        f"INSERT INTO end_places ({_PLACE_COLUMNS}) SELECT DISTINCT {_PLACE_VALUES} {closed}",
        "INSERT INTO ends_by_hour (kind_id, hour, ends, lived_ms)"
        f" SELECT kind_id, {_HOUR} AS h, count(*), sum({_LIVED}) FROM connections"
        f" JOIN end_kinds ON {_qualified(kind, 'end_kinds')}"
        " WHERE connections.status = 'closed' GROUP BY kind_id, h",
        "INSERT INTO ends_by_day (place_id, kind_id, day, ends, lived_ms)"
        f" SELECT place_id, kind_id, {_DAY} AS d, count(*), sum({_LIVED}) FROM connections"
        f" JOIN end_kinds ON {_qualified(kind, 'end_kinds')}"
        f" JOIN end_places ON {_qualified(place, 'end_places')}"
        " WHERE connections.status = 'closed' GROUP BY place_id, kind_id, d",
    ):
        bind.exec_driver_sql(statement.format(row=row))


def _qualified(condition: str, table: str) -> str:
    """The condition with its own columns, which a row of the log has too, named in full."""
    return " AND ".join(f"{table}.{part}" for part in condition.split(" AND "))
