"""One person: when they are cut off, by what, from where, and against others on the same relays.

Law: reads only, of what is the viewer's to see. Bounded by the rows that one person has in the span.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Integer, and_, case, cast, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.attribution.causes.catalogue import cause_of
from tether.attribution.sides import side_of
from tether.attribution.vocabulary import ConnectType
from tether.server.connlog.queries.listing import visible_to
from tether.server.db.tables.connections import connections, path_events
from tether.server.identity import Identity
from tether.server.times import iso

_C = connections.c

MOST = 50_000
"""Rows of one person that are read."""

LISTED = 20
HOUR_S, DAY_S, WEEK_S = 3_600, 86_400, 7 * 86_400

_TUNNEL = func.coalesce(
    and_(_C.connect_type == str(ConnectType.AGENT_TO_CLIENT), _C.parent_id.is_(None)), False
)
"""Bare, SQLite would take the index of `parent_id`, in which nearly every row has none."""


async def person(
    tx: AsyncConnection, user: str, viewer: Identity, now: float, *, span_s: float
) -> dict[str, Any]:
    """What is known of `user` over the last `span_s` seconds."""
    since = now - span_s
    mine = (
        select(
            _C.connection_id,
            _C.disconnect_cause.label("cause"),
            _C.disconnect_expected.label("expected"),
            _C.disconnected_at.label("at"),
            _C.client_ip.label("client_ip"),
            _C.relay_region.label("relay"),
            _C.workspace.label("workspace"),
            _C.app.label("app"),
            (func.coalesce(_C.disconnected_at, now) - _C.connected_at).label("lived"),
        )
        .where(_C.user == user, _C.created_at >= since, visible_to(viewer))
        .where(_TUNNEL)
        .order_by(_C.created_at.desc())
        .limit(MOST)
        .cte("mine")
    )
    m = mine.c
    cut = case((m.expected.is_(False), 1), else_=0)
    total, cuts, lived = (
        await tx.execute(select(func.count(), func.sum(cut), func.sum(m.lived)).select_from(mine))
    ).one()
    hours = (lived or 0) / HOUR_S
    return {
        "user": user,
        "since": iso(since),
        "connections": total,
        "cuts": cuts or 0,
        "hours": round(hours, 1),
        "cuts_per_100_h": _rate(cuts or 0, hours),
        "others_per_100_h": await _others(tx, user, viewer, now - min(span_s, WEEK_S), now),
        "week": await _week(tx, m),
        "causes": await _causes(tx, m),
        "networks": await _by(tx, m.client_ip, m),
        "relays": await _by(tx, m.relay, m),
        "workspaces": await _by(tx, m.workspace, m),
        "programs": await _by(tx, m.app, m),
        "gaps": await _gaps(tx, select(m.connection_id)),
    }


async def _week(tx: AsyncConnection, m: Any) -> list[dict[str, Any]]:
    """Unexpected ends by hour of the week (UTC, from Thursday 0 h, as unix time counts) and cause."""
    hour = cast(m.at, Integer) % WEEK_S / HOUR_S
    found = await tx.execute(
        select(cast(hour, Integer), m.cause, func.count())
        .where(m.expected.is_(False))
        .group_by(cast(hour, Integer), m.cause)
    )
    return [
        {"hour": at, "cause": cause, "side": str(side_of(cause)), "ends": many}
        for at, cause, many in found
    ]


async def _causes(tx: AsyncConnection, m: Any) -> list[dict[str, Any]]:
    found = await tx.execute(
        select(m.cause, func.count(), func.max(m.at))
        .where(m.expected.is_(False))
        .group_by(m.cause)
        .order_by(func.count().desc())
        .limit(LISTED)
    )
    return [
        {
            "cause": cause,
            "title": cause_of(cause).title,
            "advice": cause_of(cause).advice,
            "side": str(side_of(cause)),
            "ends": many,
            "last_at": iso(at),
        }
        for cause, many, at in found
    ]


async def _by(tx: AsyncConnection, column: Any, m: Any) -> list[dict[str, Any]]:
    """Connections, cuts and hours for each value of a column."""
    found = await tx.execute(
        select(
            func.coalesce(column, ""),
            func.count(),
            func.sum(case((m.expected.is_(False), 1), else_=0)),
            func.sum(m.lived),
        )
        .group_by(func.coalesce(column, ""))
        .order_by(func.count().desc())
        .limit(LISTED)
    )
    return [
        {
            "value": value,
            "connections": many,
            "cuts": cuts or 0,
            "hours": round((lived or 0) / HOUR_S, 1),
            "cuts_per_100_h": _rate(cuts or 0, (lived or 0) / HOUR_S),
        }
        for value, many, cuts, lived in found
    ]


async def _gaps(tx: AsyncConnection, ids: Any) -> dict[str, Any]:
    """Times when nothing passed and the connection went on."""
    p = path_events.c
    found = await tx.execute(
        select(func.count(), func.sum(p.gap_s), func.max(p.gap_s)).where(
            p.connection_id.in_(ids), p.event == "resumed"
        )
    )
    many, seconds, longest = found.one()
    return {
        "survived": many,
        "seconds": round(seconds or 0.0, 1),
        "longest_s": round(longest or 0.0, 1),
    }


async def _others(
    tx: AsyncConnection, user: str, viewer: Identity, since: float, now: float
) -> float | None:
    """The rate of everybody else whose connections ended lately; None where there is nobody."""
    lived = _C.disconnected_at - func.coalesce(_C.connected_at, _C.disconnected_at)
    found = await tx.execute(
        select(
            func.sum(case((_C.disconnect_expected.is_(False), 1), else_=0)), func.sum(lived)
        ).where(
            _C.disconnected_at >= since,
            func.coalesce(_C.user, "") != user,
            _TUNNEL,
            visible_to(viewer),
        )
    )
    cuts, seconds = found.one()
    return _rate(cuts or 0, seconds / HOUR_S) if seconds else None


def _rate(cuts: int, hours: float) -> float | None:
    """Cuts in a hundred connected hours; None for less than one hour."""
    return round(100 * cuts / hours, 2) if hours >= 1 else None
