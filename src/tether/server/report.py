"""The breakdown of ends: how many, by cause and by what else, and how many nobody could explain.

Law: reads only, in SQL; shows a viewer what is theirs to see, as `browse` does. Whole hours or days come
from the roll-ups of `report_tables`, what lies at the edges of the span from the log itself, so that the
sums are exact. Control links and tunnels count alike: a filter by `type` tells them apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Integer,
    Select,
    and_,
    case,
    cast,
    func,
    literal,
    or_,
    select,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.attribution.causes import cause_of
from tether.attribution.vocabulary import Reason
from tether.server import browse
from tether.server.identity import Identity
from tether.server.ports import ConnectionFilter
from tether.server.report_tables import (
    DAY_S,
    HOUR_S,
    end_kinds,
    end_places,
    ends_by_day,
    ends_by_hour,
)
from tether.server.schema import ConnectionStatus, connections, workspaces
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


@dataclass(frozen=True, slots=True)
class _Group:
    """Ends that have one value in common."""

    value: Any
    ends: int
    unexpected: int
    unknown: int
    lived_ms: int


async def report(
    tx: AsyncConnection, filters: ConnectionFilter, viewer: Identity
) -> dict[str, Any]:
    """Counts of the closed connections that match; `since` and `until` frame when they ended."""
    by = {name: await _breakdown(tx, name, filters, viewer) for name in BREAKDOWNS}
    whole = by["reason"]  # there are fewer reasons than any breakdown shows
    ends = sum(group.ends for group in whole)
    unexpected = sum(group.unexpected for group in whole)
    unknown = sum(group.unknown for group in whole)
    lived_ms = sum(group.lived_ms for group in whole)
    return {
        "ends": ends,
        "expected": ends - unexpected,
        "unexpected": unexpected,
        "unknown": unknown,
        "unknown_rate": round(unknown / ends, 4) if ends else 0.0,
        "incidents": await _incidents(tx, filters, viewer),
        "mean_duration_s": round(lived_ms / 1000 / ends, 3) if ends else 0.0,
        "by": {name: [_told(name, group) for group in groups] for name, groups in by.items()},
    }


async def _breakdown(
    tx: AsyncConnection, name: str, filters: ConnectionFilter, viewer: Identity
) -> list[_Group]:
    """The most frequent first, days in their order."""
    if filters.status not in (None, ConnectionStatus.CLOSED):
        return []
    placed = name in _OF_A_PLACE or bool(_places(filters, viewer))
    if filters.incident is not None:
        sources = [_from_the_log(name, filters, viewer, _ended_within(filters))]
    else:
        first, behind, edges = _whole_spans(filters, DAY_S if placed else HOUR_S)
        sources = [_from_the_roll_up(name, filters, viewer, first, behind, placed=placed)]
        if edges is not None:
            sources.append(_from_the_log(name, filters, viewer, edges))
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
    return [_Group(*row) for row in listed]


def _whole_spans(
    filters: ConnectionFilter, span_s: int
) -> tuple[int | None, int | None, ColumnElement[bool] | None]:
    """The first whole span, the one behind the last, and which rows are in neither."""
    at, edges = _C.disconnected_at, []
    first = behind = None
    if filters.since is not None:
        first = int(-(-filters.since // span_s))
        edges.append(and_(at >= filters.since, at < first * span_s))
    if filters.until is not None:
        behind = int(filters.until // span_s)
        edges.append(and_(at >= behind * span_s, at < filters.until))
    if first is not None and behind is not None and first > behind:  # within one span
        return first, first, _ended_within(filters)
    return first, behind, or_(*edges) if edges else None


def _ended_within(filters: ConnectionFilter) -> ColumnElement[bool]:
    at = _C.disconnected_at
    return and_(
        at.is_not(None),
        *([at >= filters.since] if filters.since is not None else []),
        *([at < filters.until] if filters.until is not None else []),
    )


def _from_the_roll_up(
    name: str,
    filters: ConnectionFilter,
    viewer: Identity,
    first: int | None,
    behind: int | None,
    *,
    placed: bool,
) -> Select[Any]:
    """Sums of whole spans. Few groups are left before anything is joined to them."""
    table = ends_by_day if placed else ends_by_hour
    span = table.c.day if placed else table.c.hour
    groups: list[ColumnElement[Any]] = [table.c.kind_id]
    if name in _OF_A_PLACE:
        groups.insert(0, table.c.place_id)
    if name == "day":
        groups.append((span if placed else span // (DAY_S // HOUR_S)).label("the_day"))
    sums = (func.sum(table.c.ends).label("ends"), func.sum(table.c.lived_ms).label("lived_ms"))
    summed = select(*groups, *sums).group_by(*groups)
    if first is not None:
        summed = summed.where(span >= first)
    if behind is not None:
        summed = summed.where(span < behind)
    if kinds := _kinds(filters):
        summed = summed.where(table.c.kind_id.in_(select(_K.kind_id).where(*kinds)))
    if places := _places(filters, viewer):
        summed = summed.where(table.c.place_id.in_(select(_P.place_id).where(*places)))
    some = summed.subquery()
    value = some.c.the_day if name == "day" else {**_OF_A_KIND, **_OF_A_PLACE}[name]
    joined = some.join(end_kinds, _K.kind_id == some.c.kind_id)
    if name in _OF_A_PLACE:
        joined = joined.join(end_places, _P.place_id == some.c.place_id)
    return select(
        value.label("value"),
        some.c.ends,
        case((_K.expected.is_(False), some.c.ends), else_=0).label("unexpected"),
        case((_K.reason == str(Reason.UNKNOWN), some.c.ends), else_=0).label("unknown"),
        some.c.lived_ms,
    ).select_from(joined)


def _kinds(filters: ConnectionFilter) -> list[ColumnElement[bool]]:
    exact = {
        _K.type: filters.type,
        _K.reason: filters.reason,
        _K.cause: filters.cause,
        _K.initiator: filters.initiator,
    }
    wanted = [column == str(value) for column, value in exact.items() if value is not None]
    if filters.expected is not None:
        wanted.append(_K.expected.is_(filters.expected))
    return wanted


def _places(filters: ConnectionFilter, viewer: Identity) -> list[ColumnElement[bool]]:
    exact = {_P.workspace: filters.workspace, _P.user: filters.user}
    wanted = [column == value for column, value in exact.items() if value is not None]
    if not viewer.is_admin:
        own = select(workspaces.c.workspace_id).where(workspaces.c.owner == viewer.user)
        wanted.append(or_(_P.user == viewer.user, _P.workspace_id.in_(own)))
    return wanted


def _from_the_log(
    name: str, filters: ConnectionFilter, viewer: Identity, ended: ColumnElement[bool]
) -> Select[Any]:
    return select(
        BREAKDOWNS[name].label("value"),
        literal(1).label("ends"),
        case((_C.disconnect_expected.is_(False), 1), else_=0).label("unexpected"),
        case((_C.disconnect_reason == str(Reason.UNKNOWN), 1), else_=0).label("unknown"),
        _LIVED_MS.label("lived_ms"),
    ).where(ended, *_rows(filters, viewer))


def _rows(filters: ConnectionFilter, viewer: Identity) -> list[ColumnElement[bool]]:
    return [
        browse.visible_to(viewer),
        *browse.of_the_kind(filters),
        _C.status == str(ConnectionStatus.CLOSED),
    ]


async def _incidents(tx: AsyncConnection, filters: ConnectionFilter, viewer: Identity) -> int:
    """How many incidents the ends are part of; an index has all that this asks of a row."""
    of_one = _C.incident_id.is_not(None)
    query = select(func.count(func.distinct(_C.incident_id))).where(
        of_one, _ended_within(filters), *_rows(filters, viewer)
    )
    return await tx.scalar(query) or 0


def _told(name: str, group: _Group) -> dict[str, Any]:
    return {
        "value": iso(group.value * DAY_S)[:10] if name == "day" else group.value,
        "ends": group.ends,
        "expected": group.ends - group.unexpected,
        "unexpected": group.unexpected,
        "unknown": group.unknown,
        **({"title": cause_of(group.value).title} if name == "cause" else {}),
    }
