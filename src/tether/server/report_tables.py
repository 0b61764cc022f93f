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

from tether.server.schema import metadata

__all__ = ["end_kinds", "end_places", "ends_by_day", "ends_by_hour", "metadata"]

HOUR_S, DAY_S = 3_600, 86_400

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
    Column("kind_id", _Id, primary_key=True, autoincrement=False),
    Column("hour", Integer, primary_key=True, autoincrement=False),  # of unix time
    Column("ends", BigInteger, nullable=False),
    Column("lived_ms", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""How many ends of a kind there were in an hour."""

ends_by_day = Table(
    "ends_by_day",
    metadata,
    Column("place_id", _Id, primary_key=True, autoincrement=False),
    Column("kind_id", _Id, primary_key=True, autoincrement=False),
    Column("day", Integer, primary_key=True, autoincrement=False),  # of unix time
    Column("ends", BigInteger, nullable=False),
    Column("lived_ms", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""As `ends_by_hour`, for each place. By the day: by the hour it would have as many rows as the log."""

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


def _more(row: str) -> str:
    sums = "DO UPDATE SET ends = ends + 1, lived_ms = lived_ms + excluded.lived_ms;"
    return f"""
        {_known("end_kinds", _KIND, row)}
        {_known("end_places", _PLACE, row)}
        INSERT INTO ends_by_hour (kind_id, hour, ends, lived_ms)
        SELECT kind_id, {_span(row, HOUR_S)}, 1, {_lived_ms(row)}
        FROM end_kinds WHERE {_is(row, _KIND)} ON CONFLICT (kind_id, hour) {sums}
        INSERT INTO ends_by_day (place_id, kind_id, day, ends, lived_ms)
        SELECT place_id, kind_id, {_span(row, DAY_S)}, 1, {_lived_ms(row)}
        FROM end_places, end_kinds WHERE {_is(row, _PLACE)} AND {_is(row, _KIND)}
        ON CONFLICT (place_id, kind_id, day) {sums}"""


def _less(row: str) -> str:
    kind = f"kind_id = (SELECT kind_id FROM end_kinds WHERE {_is(row, _KIND)})"
    place = f"place_id = (SELECT place_id FROM end_places WHERE {_is(row, _PLACE)})"
    in_hour = f"{kind} AND hour = {_span(row, HOUR_S)}"
    in_day = f"{place} AND {kind} AND day = {_span(row, DAY_S)}"
    sums = f"SET ends = ends - 1, lived_ms = lived_ms - {_lived_ms(row)}"
    return f"""
        UPDATE ends_by_hour {sums} WHERE {in_hour};
        DELETE FROM ends_by_hour WHERE {in_hour} AND ends = 0;
        UPDATE ends_by_day {sums} WHERE {in_day};
        DELETE FROM ends_by_day WHERE {in_day} AND ends = 0;"""


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
