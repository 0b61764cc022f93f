"""The tables of the report's roll-ups, and the triggers that keep them up to date as rows close.

Law: as `base`. The triggers run inside the transaction that changes a row of `connections`, whoever
changes it: an end is counted when its row is closed, moves when its verdict or its type is revised, and
is taken out when its row is deleted. Spans are whole milliseconds, so that sums do not depend on the
order of what was added and taken out. Their SQL is a file of the newest migration that changed them.
SQLite only: another database needs its own.
"""

from __future__ import annotations

from sqlalchemy import DDL, UniqueConstraint, event

from tether.server.db.statements import read_statements
from tether.server.db.tables.base import (
    BigInt,
    BoolKey,
    IntKey,
    NumberedKey,
    Row,
    Sequence,
    metadata,
    table,
)

HOUR_S, DAY_S, MONTH_S = 3_600, 86_400, 30 * 86_400

TRIGGERS = "report_triggers_v0005.sql"
"""The file that makes the triggers."""


class EndKindRow(Row, frozen=True, kw_only=True):
    """A kind of end, whoever lost the connection: some hundreds of rows."""

    kind_id: Sequence
    type: str
    cause: str
    reason: str
    initiator: str
    expected: bool
    relay: str  # '': none


end_kinds = table(
    "end_kinds",
    EndKindRow,
    UniqueConstraint("type", "cause", "reason", "initiator", "expected", "relay"),
)


class EndPlaceRow(Row, frozen=True, kw_only=True):
    """Where an end was, and whose. '' where there is none."""

    place_id: Sequence
    workspace_id: str
    workspace: str
    user: str


end_places = table("end_places", EndPlaceRow, UniqueConstraint("workspace_id", "workspace", "user"))


class EndsByHourRow(Row, frozen=True, kw_only=True):
    """How many ends of a kind there were in an hour."""

    hour: IntKey  # of unix time
    kind_id: NumberedKey
    ends: BigInt
    lived_ms: BigInt


ends_by_hour = table("ends_by_hour", EndsByHourRow, sqlite_with_rowid=False)


class EndsByDayRow(Row, frozen=True, kw_only=True):
    """How many ends of a kind there were in a day: a year of hours has as many rows as the log, where
    ends are of many kinds."""

    day: IntKey  # of unix time
    kind_id: NumberedKey
    ends: BigInt
    lived_ms: BigInt


ends_by_day = table("ends_by_day", EndsByDayRow, sqlite_with_rowid=False)


class EndsByPlaceDayRow(Row, frozen=True, kw_only=True):
    """How many ends a place had in a day. Not by their kind: that would be as many rows as the log."""

    day: IntKey  # of unix time
    place_id: NumberedKey
    expected: BoolKey
    unexplained: BoolKey
    ends: BigInt
    lived_ms: BigInt


ends_by_place_day = table("ends_by_place_day", EndsByPlaceDayRow, sqlite_with_rowid=False)


class EndsByPlaceMonthRow(Row, frozen=True, kw_only=True):
    """How many ends a place had in a month: places are many, and so are days."""

    month: IntKey  # of unix time: of 30 days
    place_id: NumberedKey
    expected: BoolKey
    unexplained: BoolKey
    ends: BigInt
    lived_ms: BigInt


ends_by_place_month = table("ends_by_place_month", EndsByPlaceMonthRow, sqlite_with_rowid=False)

for _statement in read_statements(TRIGGERS):
    event.listen(metadata, "after_create", DDL(_statement).execute_if(dialect="sqlite"))  # type: ignore[no-untyped-call]
