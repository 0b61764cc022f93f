"""The breakdown of ends: how many, by cause and by what else, and how many nobody could explain.

Law: reads only, in SQL; shows a viewer what is theirs to see, as `listing` does. Whole hours or days
come from the roll-ups of `db.tables.report`, what lies at the edges of the span from the log itself, so
that the sums are exact. Control links and tunnels count alike: a filter by `type` separates them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Integer,
    Select,
    Table,
    case,
    cast,
    func,
    literal,
    or_,
    select,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.attribution.causes.catalogue import cause_of
from tether.attribution.vocabulary import Reason
from tether.server.connlog.filter import RowSearch, Values
from tether.server.connlog.queries.listing import visible_to
from tether.server.connlog.queries.search import causes_of, conditions, indexed, of_values
from tether.server.db.tables.connections import ConnectionStatus, connections
from tether.server.db.tables.report import (
    DAY_S,
    HOUR_S,
    MONTH_S,
    end_kinds,
    end_places,
    ends_by_day,
    ends_by_hour,
    ends_by_place_day,
    ends_by_place_month,
)
from tether.server.identity import Identity
from tether.server.times import iso

AT_MOST = 1000
"""Groups of one breakdown; what is beyond is in `ends` alone."""

_C, _K, _P = connections.c, end_kinds.c, end_places.c
_DAY = cast(_C.disconnected_at, Integer) // DAY_S
_LIVED_MS = cast(
    func.round((_C.disconnected_at - func.coalesce(_C.connected_at, _C.disconnected_at)) * 1000),
    Integer,
)

BREAKDOWNS: Mapping[str, ColumnElement[Any]] = {
    "cause": _C.disconnect_cause,
    "reason": _C.disconnect_reason,
    "initiator": _C.disconnect_initiator,
    "workspace": func.coalesce(_C.workspace, ""),
    "user": func.coalesce(_C.user, ""),
    "relay": func.coalesce(_C.relay_region, ""),
    "day": _DAY,
}
"""What ends can be counted by, as a row of the log has it."""

_OF_A_PLACE: Mapping[str, ColumnElement[Any]] = {"workspace": _P.workspace, "user": _P.user}
_OF_A_KIND: Mapping[str, ColumnElement[Any]] = {
    "cause": _K.cause,
    "reason": _K.reason,
    "initiator": _K.initiator,
    "relay": _K.relay,
}
_KINDS: Mapping[str, ColumnElement[Any]] = {
    "type": _K.type,
    "reason": _K.reason,
    "cause": _K.cause,
    "initiator": _K.initiator,
    "expected": _K.expected,
}
"""Filters that the roll-ups can answer."""

_LEVELS_OF_KINDS: tuple[tuple[Table, int], ...] = ((ends_by_day, DAY_S), (ends_by_hour, HOUR_S))
_LEVELS_OF_PLACES: tuple[tuple[Table, int], ...] = (
    (ends_by_place_month, MONTH_S),
    (ends_by_place_day, DAY_S),
)
"""Roll-up, and what one of its units lasts; the next one adds up what is less than a unit."""

_UNIT = {
    "ends_by_day": "day",
    "ends_by_hour": "hour",
    "ends_by_place_month": "month",
    "ends_by_place_day": "day",
}


@dataclass(frozen=True, slots=True)
class Group:
    """Ends that have one value in common. `title`: of a cause."""

    value: str
    title: str
    ends: int
    unexpected: int
    unknown: int
    lived_ms: int

    @property
    def expected(self) -> int:
        return self.ends - self.unexpected


@dataclass(frozen=True, slots=True)
class CauseReport:
    """How connections ended, counted. `unknown`: ends that nobody could explain."""

    ends: int
    unexpected: int
    unknown: int
    lived_ms: int
    incidents: int
    by: Mapping[str, list[Group]]

    @property
    def expected(self) -> int:
        return self.ends - self.unexpected

    @property
    def unknown_rate(self) -> float:
        return round(self.unknown / self.ends, 4) if self.ends else 0.0

    @property
    def mean_duration_s(self) -> float:
        return round(self.lived_ms / 1000 / self.ends, 3) if self.ends else 0.0


async def count_ends(
    tx: AsyncConnection,
    search: RowSearch,
    viewer: Identity,
    names: Collection[str] = tuple(BREAKDOWNS),
) -> CauseReport:
    """Counts of the closed connections that match; every bound but `began_*` frames when they ended."""
    # there are fewer of each of these than a breakdown shows: any one adds up to the whole
    of_all = next((name for name in ("cause", "reason", "initiator") if name in names), "reason")
    listed = [name for name in BREAKDOWNS if name in (*names, of_all)]
    closed = search.of_ended_ones()
    if closed is None:
        return CauseReport(0, 0, 0, 0, 0, {name: [] for name in names})
    span = _Span(
        since=max(
            (b for b in (search.lived_since, search.ended_since) if b is not None), default=None
        ),
        until=min(
            (b for b in (search.lived_until, search.ended_until) if b is not None), default=None
        ),
    )
    rest = replace(
        closed, lived_since=None, lived_until=None, ended_since=None, ended_until=None
    ).without("status")
    by = {name: await _breakdown(tx, name, rest, span, viewer) for name in listed}
    whole = by[of_all]
    return CauseReport(
        ends=sum(group.ends for group in whole),
        unexpected=sum(group.unexpected for group in whole),
        unknown=sum(group.unknown for group in whole),
        lived_ms=sum(group.lived_ms for group in whole),
        incidents=await _incidents(tx, rest, span, viewer),
        by={name: groups for name, groups in by.items() if name in names},
    )


async def _breakdown(
    tx: AsyncConnection, name: str, search: RowSearch, ended: _Span, viewer: Identity
) -> list[Group]:
    """The most frequent first, days in their order."""
    sources = _sources(name, search, ended, viewer)
    found = (sources[0] if len(sources) == 1 else union_all(*sources)).subquery()
    value, ends = found.c.value, func.sum(found.c.ends)
    listed = await tx.execute(
        select(
            value,
            ends,
            func.sum(found.c.unexpected),
            func.sum(found.c.unknown),
            func.sum(found.c.lived_ms),
        )
        .group_by(value)
        .order_by(value if name == "day" else ends.desc(), value)
        .limit(AT_MOST)
    )
    return [
        Group(
            value=iso(value * DAY_S)[:10] if name == "day" else value,
            title=cause_of(value).title if name == "cause" else "",
            ends=ends,
            unexpected=unexpected,
            unknown=unknown,
            lived_ms=lived_ms,
        )
        for value, ends, unexpected, unknown, lived_ms in listed
    ]


def _sources(name: str, search: RowSearch, ended: _Span, viewer: Identity) -> list[Select[Any]]:
    """What is to be added up: whole long units, then shorter ones at their edges, then rows at theirs.

    The log itself answers where the roll-ups cannot tell: for anything but a kind of ends, which mostly
    is few rows of it; and, by workspace and user, for one kind of ends.
    """
    if (
        not viewer.is_admin
        or replace(search, values=_others(search), sides=Values()) != RowSearch()
    ):
        return [_from_the_log(name, search, viewer, ended)]
    of_level = _of_places if name in _OF_A_PLACE else _of_kinds
    levels = _LEVELS_OF_PLACES if name in _OF_A_PLACE else _LEVELS_OF_KINDS
    if name in _OF_A_PLACE and _kinds(search.without("expected")):
        levels = ()
    found, left = [], [ended]
    for table, unit_s in levels:
        cuts = [span.cut(unit_s) for span in left]
        found += [of_level(name, search, whole, table) for whole, _ in cuts if whole is not None]
        left = [edge for _, edges in cuts for edge in edges]
    return found + [_from_the_log(name, search, viewer, one, edge=bool(levels)) for one in left]


def _others(search: RowSearch) -> dict[str, Values]:
    """The filters that are not of a kind of ends."""
    return {name: values for name, values in search.values.items() if name not in _KINDS}


@dataclass(frozen=True, slots=True)
class _Span:
    """From `since` to before `until` (unix seconds, or whole hours or days of them); None: no bound."""

    since: float | None
    until: float | None

    def cut(self, unit_s: int) -> tuple[_Span | None, list[_Span]]:
        """The whole units of this span, in units, and what is left at its ends, in seconds."""
        since, until = self.since, self.until
        first = None if since is None else -int(-since // unit_s)
        behind = None if until is None else int(until // unit_s)
        if first is not None and behind is not None and first >= behind:
            return None, [self]
        edges = []
        if since is not None and first is not None and since < first * unit_s:
            edges.append(_Span(since, first * unit_s))
        if until is not None and behind is not None and behind * unit_s < until:
            edges.append(_Span(behind * unit_s, until))
        return _Span(first, behind), edges

    def has(self, at: ColumnElement[Any]) -> list[ColumnElement[bool]]:
        """Whether `at` lies within."""
        return [
            *([at >= self.since] if self.since is not None else []),
            *([at < self.until] if self.until is not None else []),
        ]


def _of_kinds(name: str, search: RowSearch, span: _Span, table: Table) -> Select[Any]:
    """Sums of whole days or hours, by kinds of ends."""
    unit = table.c[_UNIT[table.name]]
    days = unit if table is ends_by_day else unit // (DAY_S // HOUR_S)
    groups = [table.c.kind_id, *([days.label("the_day")] if name == "day" else [])]
    summed = select(*groups, *_sums(table)).where(*span.has(unit)).group_by(*groups)
    if kinds := _kinds(search):
        summed = summed.where(table.c.kind_id.in_(select(_K.kind_id).where(*kinds)))
    some = summed.subquery()
    value = some.c.the_day if name == "day" else _OF_A_KIND[name]
    return select(
        value.label("value"),
        some.c.ends,
        case((_K.expected.is_(False), some.c.ends), else_=0).label("unexpected"),
        case((_K.reason == str(Reason.UNKNOWN), some.c.ends), else_=0).label("unknown"),
        some.c.lived_ms,
    ).select_from(some.join(end_kinds, _K.kind_id == some.c.kind_id))


def _of_places(name: str, search: RowSearch, span: _Span, table: Table) -> Select[Any]:
    """Sums of whole months or days, by where the ends were."""
    groups = (table.c.place_id, table.c.expected, table.c.unexplained)
    summed = (
        select(*groups, *_sums(table))
        .where(*span.has(table.c[_UNIT[table.name]]))
        .group_by(*groups)
    )
    summed = summed.where(*of_values(table.c.expected, search.values.get("expected", Values())))
    some = summed.subquery()
    return select(
        _OF_A_PLACE[name].label("value"),
        some.c.ends,
        case((some.c.expected.is_(False), some.c.ends), else_=0).label("unexpected"),
        case((some.c.unexplained.is_(True), some.c.ends), else_=0).label("unknown"),
        some.c.lived_ms,
    ).select_from(some.join(end_places, _P.place_id == some.c.place_id))


def _sums(table: Table) -> tuple[ColumnElement[int], ColumnElement[int]]:
    return func.sum(table.c.ends).label("ends"), func.sum(table.c.lived_ms).label("lived_ms")


def _kinds(search: RowSearch) -> list[ColumnElement[bool]]:
    wanted = of_values(_K.cause, causes_of(search.sides))
    for name, values in search.values.items():
        wanted += of_values(_KINDS[name], values)
    return wanted


def _from_the_log(
    name: str, search: RowSearch, viewer: Identity, ended: _Span, *, edge: bool = False
) -> Select[Any]:
    """The rows themselves; at an `edge`, when they ended leaves the fewest."""
    return select(
        BREAKDOWNS[name].label("value"),
        literal(1).label("ends"),
        case((_C.disconnect_expected.is_(False), 1), else_=0).label("unexpected"),
        case((_C.disconnect_reason == str(Reason.UNKNOWN), 1), else_=0).label("unknown"),
        _LIVED_MS.label("lived_ms"),
    ).where(
        *ended.has(_C.disconnected_at),
        visible_to(viewer),
        *conditions(search, now=0.0),  # what is over has its duration, whatever the time is
        *([] if edge else _by_index(search)),
        _C.status == str(ConnectionStatus.CLOSED),
    )


async def _incidents(tx: AsyncConnection, search: RowSearch, ended: _Span, viewer: Identity) -> int:
    """How many incidents the ends are part of; an index has all that this asks of a row."""
    at = func.coalesce(_C.disconnected_at, _C.disconnected_at)  # not by the index of this one
    query = select(func.count(func.distinct(_C.incident_id))).where(
        _C.incident_id.is_not(None),
        *ended.has(at),
        visible_to(viewer),
        *conditions(search, now=0.0),
        *(_by_index(search) if "incident" in search.values else []),
    )
    return await tx.scalar(query) or 0


def _by_index(search: RowSearch) -> list[ColumnElement[bool]]:
    alternatives = indexed(search)
    return [or_(*alternatives)] if alternatives else []
