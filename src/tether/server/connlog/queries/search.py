"""A page of the connection log for every filter there is, however long the log.

Law: reads only, and shows a viewer what is theirs to see, as `listing` does. A step reads a bounded
number of rows, newest first, from the index that leaves the fewest; a page that is not full after its
steps says how far it has come, and its cursor goes on from there. A cursor is good for the filter that
it came from, and for no other.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    func,
    literal,
    or_,
    select,
    tuple_,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.attribution.causes.catalogue import CATALOGUE
from tether.attribution.sides import CAUSES_OF, Side
from tether.server.connlog.filter import NONE, RowSearch, Values
from tether.server.connlog.queries.listing import NEWEST_FIRST, visible_to
from tether.server.db.fetch import fetch_all
from tether.server.db.tables.connections import ConnectionRow, ConnectionStatus, connections
from tether.server.errors import Invalid
from tether.server.identity import Identity

_C = connections.c

STEPS = (400, 4_000, 20_000, 20_000, 20_000)
"""Rows that the steps of one page read: few where many match, and never so many that one waits."""

FEW_ENDED = 30_000
"""So many that ended in a span are sorted faster than an index by another column is searched."""

FIELDS: Mapping[str, ColumnElement[Any]] = {
    "incident": _C.incident_id,
    "session": _C.client_session_id,
    "workspace": _C.workspace,
    "user": _C.user,
    "cause": _C.disconnect_cause,
    "reason": _C.disconnect_reason,
    "type": _C.type,
    "initiator": _C.disconnect_initiator,
    "expected": _C.disconnect_expected,
    "status": _C.status,
    "connect_type": _C.connect_type,
    "method": _C.connection_method,
    "relay": _C.relay_region,
    "app": _C.app,
    "agent": _C.agent,
    "client_ip": _C.client_ip,
    "basis": _C.disconnect_basis,
    "confidence": _C.confidence,
    "actor": _C.disconnect_actor,
    "rule": _C.rule,
    "exit_code": _C.exit_code,
    "exit_signal": _C.exit_signal,
}
"""What is filtered by values -> its column; those whose index leaves the fewest rows first."""

_INDEXED = ("incident", "workspace", "user", "cause", "reason", "type", "initiator", "expected")
_TEXT = (
    *(_C.workspace, _C.user, _C.agent, _C.client_ip, _C.disconnect_detail, _C.disconnect_actor),
    *(_C.app, _C.relay_region, _C.exit_signal, _C.client_session_id),
)
_KEY = struct.Struct(">dQ8s")


@dataclass(frozen=True, slots=True)
class FoundRows:
    """A page. `next`: its cursor goes on, "" for the end; `searched_to`: as far as was read (unix
    seconds), where that is not the end."""

    rows: list[ConnectionRow]
    next: str
    searched_to: float | None


async def page(
    tx: AsyncConnection,
    search: RowSearch,
    viewer: Identity,
    now: float,
    *,
    limit: int,
    cursor: str = "",
) -> FoundRows:
    """The next rows that match, newest first.

    Raises:
        Invalid: the cursor is none, or of another filter.
    """
    after = _read(cursor, search) if cursor else None
    where = [visible_to(viewer), *conditions(search, now)]
    driver = await driver_of(tx, search)
    found: list[ConnectionRow] = []
    for rows in STEPS:
        step = step_of(driver, after, rows)
        query = (
            select(connections)
            .where(_C.seq.in_(select(step.subquery().c.seq)), *where)
            .order_by(*NEWEST_FIRST)
            .limit(limit + 1 - len(found))
        )
        found += await fetch_all(tx, query, ConnectionRow)
        if len(found) > limit:
            last = found[limit - 1]
            return FoundRows(found[:limit], _write(search, last.created_at, last.seq), None)
        reached = (await tx.execute(step.offset(rows - 1).limit(1))).one_or_none()
        if reached is None:
            return FoundRows(found, "", None)
        after = reached.created_at, reached.seq
    assert after is not None, "a step was made"
    return FoundRows(found, _write(search, *after), after[0])


def conditions(search: RowSearch, now: float) -> list[ColumnElement[bool]]:
    """What a row has to be, whatever index it is found by."""
    wanted = [
        part for name, values in search.values.items() for part in of_values(FIELDS[name], values)
    ]
    wanted += of_values(_C.disconnect_cause, causes_of(search.sides))
    if "status" not in search.values:  # a grant is no connection yet
        wanted.append(_C.status != str(ConnectionStatus.PENDING))
    if search.detached is not None:
        wanted.append(_C.detached_since.is_not(None) == search.detached)
    wanted += [_matches(word) for word in search.text.split()]
    for bound, column in (
        (search.began_since, _C.created_at),
        (search.ended_since, _C.disconnected_at),
    ):
        if bound is not None:
            wanted.append(column >= bound)
    for bound, column in (
        (search.began_until, _C.created_at),
        (search.lived_until, _C.created_at),
        (search.ended_until, _C.disconnected_at),
    ):
        if bound is not None:
            wanted.append(column < bound)
    if search.lived_since is not None:
        still = or_(_C.disconnected_at.is_(None), _C.disconnected_at >= search.lived_since)
        wanted.append(still)
    lived = func.coalesce(_C.disconnected_at, now) - _C.connected_at
    if search.min_duration_s is not None:
        wanted.append(lived >= search.min_duration_s)
    if search.max_duration_s is not None:
        wanted.append(lived <= search.max_duration_s)
    # SQLite takes any index that fits a bare comparison: which one is used is decided in `driver_of`
    return [func.coalesce(part, False) for part in wanted]


def of_values(column: ColumnElement[Any], values: Values) -> list[ColumnElement[bool]]:
    """Whether `column` has one of the wanted values, and none of the unwanted ones."""

    def is_one_of(some: tuple[Any, ...]) -> ColumnElement[bool]:
        named = [value for value in some if value != NONE]
        parts: list[ColumnElement[bool]] = [column.in_(named)] if named else []
        if NONE in some:
            parts += [column.is_(None), column == ""]
        return func.coalesce(or_(*parts), False)

    wanted = [is_one_of(values.wanted)] if values.wanted else []
    return wanted + ([~is_one_of(values.unwanted)] if values.unwanted else [])


def causes_of(sides: Values) -> Values:
    """The causes that lie on these sides."""
    return Values(
        tuple(code for side in sides.wanted for code in CAUSES_OF[Side(side)]),
        tuple(code for side in sides.unwanted for code in CAUSES_OF[Side(side)]),
    )


def _matches(word: str) -> ColumnElement[bool]:
    """Whether a row has `word` in its text, at the beginning of its ids, or in its cause's title."""
    low = word.lower()
    causes = [c.code for c in CATALOGUE.values() if low in c.code or low in c.title.lower()]
    parts: list[ColumnElement[bool]] = [
        func.coalesce(column, "").contains(word, autoescape=True) for column in _TEXT
    ]
    if causes:
        parts.append(func.coalesce(_C.disconnect_cause, "").in_(causes))
    for column in (_C.connection_id, _C.incident_id):
        parts.append(func.coalesce(column, "").startswith(low, autoescape=True))
    return or_(*parts)


# -- by which index ----------------------------------------------------------------------------


async def driver_of(tx: AsyncConnection, search: RowSearch) -> list[ColumnElement[bool]]:
    """Alternatives that find the rows by an index each; one that is always true: all rows."""
    bounds = [
        *([_C.created_at >= search.began_since] if search.began_since is not None else []),
        *([_C.created_at < search.began_until] if search.began_until is not None else []),
        *([_C.created_at < search.lived_until] if search.lived_until is not None else []),
        *([_C.created_at < search.ended_until] if search.ended_until is not None else []),
    ]
    if (since := _ended_since(search)) is not None:
        ended = select(literal(1)).where(_C.disconnected_at >= since).limit(FEW_ENDED + 1)
        many = await tx.scalar(select(func.count()).select_from(ended.subquery())) or 0
        if many <= FEW_ENDED:
            lately = union_all(
                select(_C.seq).where(_C.disconnected_at >= since),
                select(_C.seq).where(_C.status != str(ConnectionStatus.CLOSED)),
            )
            return [and_(_C.seq.in_(lately), *map(_aside, bounds))]
    if alternatives := indexed(search):
        return [and_(one, *bounds) for one in alternatives]
    if search.values.get("status") == Values(("ongoing",)) or search.detached:
        return [and_(_C.status != str(ConnectionStatus.CLOSED), *map(_aside, bounds))]
    return [and_(*bounds) if bounds else _C.created_at.is_not(None)]


def indexed(search: RowSearch) -> list[ColumnElement[bool]]:
    """The wanted values of the field whose index leaves the fewest rows, each compared so that the
    database takes that index; none where no such field is filtered."""
    for name in _INDEXED:
        values = search.values.get(name)
        if values and values.wanted and NONE not in values.wanted and len(values.wanted) <= 8:
            return [FIELDS[name] == value for value in values.wanted]
    return []


def _aside(bound: ColumnElement[bool]) -> ColumnElement[bool]:
    return func.coalesce(bound, False)


def _ended_since(search: RowSearch) -> float | None:
    bounds = [b for b in (search.lived_since, search.ended_since) if b is not None]
    return max(bounds, default=None)


def step_of(
    driver: list[ColumnElement[bool]], after: tuple[float, int] | None, rows: int
) -> Select[Any]:
    """The numbers of the rows of one step, newest first."""
    parts = [
        select(_C.seq, _C.created_at)
        .where(part, *_behind(after))
        .order_by(*NEWEST_FIRST)
        .limit(rows)
        for part in driver
    ]
    if len(parts) == 1:
        return parts[0]
    together = union_all(*(select(part.subquery()) for part in parts)).subquery()
    newest = (together.c.created_at.desc(), together.c.seq.desc())
    return select(together).order_by(*newest).limit(rows)


def _behind(after: tuple[float, int] | None) -> list[ColumnElement[bool]]:
    if after is None:
        return []
    at, seq = after
    return [_C.created_at <= at, tuple_(_C.created_at, _C.seq) < tuple_(literal(at), literal(seq))]


def _write(search: RowSearch, at: float, seq: int) -> str:
    return base64.urlsafe_b64encode(_KEY.pack(at, seq, search.fingerprint)).decode().rstrip("=")


def _read(cursor: str, search: RowSearch) -> tuple[float, int]:
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        at, seq, fingerprint = _KEY.unpack(raw)
    except (ValueError, struct.error):
        raise Invalid("bad_cursor", "this is no cursor: begin without one") from None
    if fingerprint != search.fingerprint:
        raise Invalid("bad_cursor", "this cursor is of another filter: begin without one")
    return at, seq
