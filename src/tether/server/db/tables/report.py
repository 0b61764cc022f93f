"""The tables of the report's roll-ups, and the triggers that keep them as rows close.

Law: as `schema`, whose metadata they are in. The triggers run inside the transaction that changes a row
of `connections`, whoever changes it: an end is counted when its row is closed, moves when its verdict or
its type is revised, and is taken out when its row is deleted. Spans are whole milliseconds, so that sums
do not depend on the order of what was added and taken out. SQLite only: another database needs its own.
"""

from __future__ import annotations

from sqlalchemy import (
    DDL,
    BigInteger,
    Boolean,
    Column,
    Integer,
    String,
    Table,
    UniqueConstraint,
    event,
)

from tether.server.db.schema import metadata

__all__ = [
    "end_kinds",
    "end_places",
    "ends_by_day",
    "ends_by_hour",
    "ends_by_place_day",
    "ends_by_place_month",
    "metadata",
]

HOUR_S, DAY_S, MONTH_S = 3_600, 86_400, 30 * 86_400

_KIND = ("type", "cause", "reason", "initiator", "expected", "relay")
_PLACE = ("workspace_id", "workspace", "user")

_Id = BigInteger().with_variant(Integer, "sqlite")

end_kinds = Table(
    "end_kinds",
    metadata,
    Column("kind_id", _Id, primary_key=True, autoincrement=True),
    Column("type", String, nullable=False),
    Column("cause", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("initiator", String, nullable=False),
    Column("expected", Boolean, nullable=False),
    Column("relay", String, nullable=False),  # '': none
    UniqueConstraint(*_KIND),
)
"""What can be said of an end, whoever it was that lost a connection: some hundreds of rows."""

end_places = Table(
    "end_places",
    metadata,
    Column("place_id", _Id, primary_key=True, autoincrement=True),
    Column("workspace_id", String, nullable=False),  # '' where there is none, as below
    Column("workspace", String, nullable=False),
    Column("user", String, nullable=False),
    UniqueConstraint(*_PLACE),
)
"""Where an end was, and whose."""

ends_by_hour = Table(
    "ends_by_hour",
    metadata,
    Column("hour", Integer, primary_key=True, autoincrement=False),  # of unix time
    Column("kind_id", _Id, primary_key=True, autoincrement=False),
    Column("ends", BigInteger, nullable=False),
    Column("lived_ms", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""How many ends of a kind there were in an hour."""

ends_by_day = Table(
    "ends_by_day",
    metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),  # of unix time
    Column("kind_id", _Id, primary_key=True, autoincrement=False),
    Column("ends", BigInteger, nullable=False),
    Column("lived_ms", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""As `ends_by_hour`: a year of hours has as many rows as the log, where ends are of many kinds."""

ends_by_place_day = Table(
    "ends_by_place_day",
    metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),  # of unix time
    Column("place_id", _Id, primary_key=True, autoincrement=False),
    Column("expected", Boolean, primary_key=True, autoincrement=False),
    Column("unexplained", Boolean, primary_key=True, autoincrement=False),
    Column("ends", BigInteger, nullable=False),
    Column("lived_ms", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""How many ends a place had in a day. Not by their kind: that would be as many rows as the log."""

ends_by_place_month = Table(
    "ends_by_place_month",
    metadata,
    Column("month", Integer, primary_key=True, autoincrement=False),  # of unix time: of 30 days
    Column("place_id", _Id, primary_key=True, autoincrement=False),
    Column("expected", Boolean, primary_key=True, autoincrement=False),
    Column("unexplained", Boolean, primary_key=True, autoincrement=False),
    Column("ends", BigInteger, nullable=False),
    Column("lived_ms", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""As `ends_by_place_day`: places are many, and so are days."""

_OF_THE_ROW = {
    "type": "type",
    "cause": "disconnect_cause",
    "reason": "disconnect_reason",
    "initiator": "disconnect_initiator",
    "expected": "disconnect_expected",
    "relay": "relay_region",
    "workspace_id": "workspace_id",
    "workspace": "workspace",
    "user": "user",
}
"""Column of a kind or place -> the row's."""

_WATCHED = ", ".join(
    f'"{name}"' for name in ("status", *_OF_THE_ROW.values(), "connected_at", "disconnected_at")
)


def _value(row: str, name: str) -> str:
    column = f'{row}."{_OF_THE_ROW[name]}"'
    return f"coalesce({column}, '')" if name == "relay" or name in _PLACE else column


def _is(row: str, names: tuple[str, ...]) -> str:
    return " AND ".join(f'"{name}" = {_value(row, name)}' for name in names)


def _lived_ms(row: str) -> str:
    began = f"coalesce({row}.connected_at, {row}.disconnected_at)"
    return f"CAST(round(({row}.disconnected_at - {began}) * 1000) AS INTEGER)"


def _span(row: str, seconds: int) -> str:
    return f"(CAST({row}.disconnected_at AS INTEGER) / {seconds})"


def _known(table: str, names: tuple[str, ...], row: str) -> str:
    columns = ", ".join(f'"{name}"' for name in names)
    values = ", ".join(_value(row, name) for name in names)
    return f"INSERT INTO {table} ({columns}) VALUES ({values}) ON CONFLICT DO NOTHING;"


def _keys(row: str) -> tuple[tuple[str, str, str, str], ...]:
    """Roll-up, its key, and the key's values of a row, out of what tables."""
    kind = f"FROM end_kinds WHERE {_is(row, _KIND)}"
    place = f"FROM end_places WHERE {_is(row, _PLACE)}"
    flags = f"{row}.disconnect_expected, {row}.disconnect_reason = 'unknown'"
    named = "place_id, expected, unexplained"
    return (
        ("ends_by_hour", "hour, kind_id", f"{_span(row, HOUR_S)}, kind_id", kind),
        ("ends_by_day", "day, kind_id", f"{_span(row, DAY_S)}, kind_id", kind),
        (
            "ends_by_place_day",
            f"day, {named}",
            f"{_span(row, DAY_S)}, place_id, {flags}",
            place,
        ),
        (
            "ends_by_place_month",
            f"month, {named}",
            f"{_span(row, MONTH_S)}, place_id, {flags}",
            place,
        ),
    )


def _more(row: str) -> str:
    sums = "DO UPDATE SET ends = ends + 1, lived_ms = lived_ms + excluded.lived_ms;"
    known = _known("end_kinds", _KIND, row), _known("end_places", _PLACE, row)
    return " ".join(
        (
            *known,
            *(
                f"INSERT INTO {table} ({key}, ends, lived_ms) SELECT {values}, 1, {_lived_ms(row)}"
                f" {source} ON CONFLICT ({key}) {sums}"
                for table, key, values, source in _keys(row)
            ),
        )
    )


def _less(row: str) -> str:
    sums = f"SET ends = ends - 1, lived_ms = lived_ms - {_lived_ms(row)}"
    return " ".join(
        f"UPDATE {table} {sums} WHERE ({key}) = (SELECT {values} {source});"
        f" DELETE FROM {table} WHERE ({key}) = (SELECT {values} {source}) AND ends = 0;"
        for table, key, values, source in _keys(row)
    )


def _trigger(name: str, when: str, row: str, body: str) -> str:
    return (
        f"CREATE TRIGGER connections_{name} AFTER {when} ON connections"
        f" WHEN {row}.status = 'closed' BEGIN {body} END"
    )


TRIGGERS = (
    _trigger("end_inserted", "INSERT", "NEW", _more("NEW")),
    _trigger("end_deleted", "DELETE", "OLD", _less("OLD")),
    _trigger("end_left", f"UPDATE OF {_WATCHED}", "OLD", _less("OLD")),
    _trigger("end_came", f"UPDATE OF {_WATCHED}", "NEW", _more("NEW")),
)
"""An update of a closed row fires the last two: what it was is taken out, what it is put in."""

for _statement in TRIGGERS:
    event.listen(metadata, "after_create", DDL(_statement).execute_if(dialect="sqlite"))  # type: ignore[no-untyped-call]
