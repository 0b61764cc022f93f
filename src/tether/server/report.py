"""The breakdown of ends: how many, by cause and by what else, and how many nobody could explain.

Law: reads only, in SQL; shows a viewer what is theirs to see, as `browse` does. One query a breakdown.
Control links and tunnels count alike: a filter by `type` or `connect_type` tells them apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Float, Integer, case, cast, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.attribution.causes import cause_of
from tether.attribution.vocabulary import Reason
from tether.server import browse
from tether.server.identity import Identity
from tether.server.ports import ConnectionFilter
from tether.server.schema import ConnectionStatus, connections
from tether.server.times import iso

DAY_S = 86_400
AT_MOST = 1000
"""Groups of one breakdown; what is beyond is in `total` alone."""

_C = connections.c
_DAY = cast(func.floor(_C.disconnected_at / DAY_S), Integer)

BREAKDOWNS: Mapping[str, ColumnElement[Any]] = {
    "cause": _C.disconnect_cause,
    "reason": _C.disconnect_reason,
    "initiator": _C.disconnect_initiator,
    "workspace": _C.workspace,
    "user": _C.user,
    "relay": _C.relay_region,
    "day": _DAY,
}
"""What ends can be counted by."""

_UNEXPECTED = func.sum(case((_C.disconnect_expected.is_(False), 1), else_=0))
_UNKNOWN = func.sum(case((_C.disconnect_reason == Reason.UNKNOWN, 1), else_=0))


async def report(
    tx: AsyncConnection, filters: ConnectionFilter, viewer: Identity
) -> dict[str, Any]:
    """Counts of the closed connections that match."""
    where = [
        browse.visible_to(viewer),
        *browse.matching(filters),
        _C.status == ConnectionStatus.CLOSED,
    ]
    whole = (
        await tx.execute(
            select(
                func.count(),
                func.coalesce(_UNEXPECTED, 0),
                func.coalesce(_UNKNOWN, 0),
                func.count(func.distinct(_C.incident_id)),
                cast(func.coalesce(func.avg(_C.disconnected_at - _C.connected_at), 0), Float),
            ).where(*where)
        )
    ).one()
    ends, unexpected, unknown, incidents, duration_s = whole
    return {
        "ends": ends,
        "expected": ends - unexpected,
        "unexpected": unexpected,
        "unknown": unknown,
        "unknown_rate": round(unknown / ends, 4) if ends else 0.0,
        "incidents": incidents,
        "mean_duration_s": round(duration_s, 3),
        "by": {
            name: await _breakdown(tx, name, column, where) for name, column in BREAKDOWNS.items()
        },
    }


async def _breakdown(
    tx: AsyncConnection, name: str, column: ColumnElement[Any], where: list[ColumnElement[bool]]
) -> list[dict[str, Any]]:
    """One row a group: the most frequent first, days in their order."""
    count = func.count()
    order = column if name == "day" else count.desc()
    found = await tx.execute(
        select(column, count, func.coalesce(_UNEXPECTED, 0), func.coalesce(_UNKNOWN, 0))
        .where(*where)
        .group_by(column)
        .order_by(order, column)
        .limit(AT_MOST)
    )
    return [
        {
            "value": _value(name, value),
            "ends": ends,
            "expected": ends - unexpected,
            "unexpected": unexpected,
            "unknown": unknown,
            **({"title": cause_of(value).title} if name == "cause" else {}),
        }
        for value, ends, unexpected, unknown in found
    ]


def _value(name: str, value: Any) -> str:
    if value is None:
        return ""
    return iso(value * DAY_S)[:10] if name == "day" else str(value)
