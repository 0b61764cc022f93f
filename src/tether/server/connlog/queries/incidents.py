"""Incidents: what ended together, who was hit, and who has come back since.

Law: reads only. A viewer sees an incident by the ends in it that are theirs to see, and no others.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import RowMapping, and_, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.attribution.causes.catalogue import cause_of
from tether.attribution.sides import side_of
from tether.attribution.vocabulary import ConnectType, Element
from tether.server.connlog.queries.listing import visible_to
from tether.server.db.fetch import fetch_all
from tether.server.db.tables.connections import (
    ConnectionRow,
    ConnectionStatus,
    connections,
    incidents,
)
from tether.server.errors import NotFound
from tether.server.identity import Identity
from tether.server.times import iso, iso_or_none

_C, _I = connections.c, incidents.c

MOST = 100
"""Incidents of a list, and ends of one that are told."""


async def recent_incidents(
    tx: AsyncConnection, viewer: Identity, since: float, until: float, limit: int = MOST
) -> list[dict[str, Any]]:
    """Those that began in a span, newest first."""
    wanted = (
        select(incidents)
        .where(_I.began_at >= since, _I.began_at < until)
        .order_by(_I.began_at.desc())
        .limit(limit)
    )
    found = (await tx.execute(wanted)).mappings().all()
    counts = await _counts(tx, viewer, [row["incident_id"] for row in found])
    return [_told(row, counts[row["incident_id"]]) for row in found if row["incident_id"] in counts]


async def incident(tx: AsyncConnection, incident_id: str, viewer: Identity) -> dict[str, Any]:
    """One, with its ends, and for each whether its user has come back.

    Raises:
        NotFound: there is none, or nothing of it is the viewer's to see.
    """
    found = await tx.execute(select(incidents).where(_I.incident_id == incident_id))
    row = found.mappings().one_or_none()
    counts = await _counts(tx, viewer, [incident_id])
    if row is None or incident_id not in counts:
        raise NotFound("incident_not_found", f"there is no incident {incident_id[:40]!r}")
    query = (
        select(connections)
        .where(_C.incident_id == incident_id, visible_to(viewer))
        .order_by(_C.disconnected_at, _C.seq)
        .limit(MOST)
    )
    ends = await fetch_all(tx, query, ConnectionRow)
    hit = [(end, await _back_at(tx, end)) for end in ends]
    return {**_told(row, counts[incident_id]), "hit": hit}


async def acknowledge(tx: AsyncConnection, incident_id: str, user: str, at: float) -> None:
    """Note who has seen to it; the first one stays.

    Raises:
        NotFound: there is none.
    """
    its = incidents.update().where(_I.incident_id == incident_id)
    done = await tx.execute(
        its.values(
            acknowledged_at=func.coalesce(_I.acknowledged_at, at),
            acknowledged_by=func.coalesce(_I.acknowledged_by, user),
        )
    )
    if done.rowcount == 0:
        raise NotFound("incident_not_found", f"there is no incident {incident_id[:40]!r}")


async def _counts(
    tx: AsyncConnection, viewer: Identity, ids: Iterable[str]
) -> dict[str, RowMapping]:
    """Incident -> its ends and people that the viewer may see; what they see nothing of is left out."""
    tunnel = and_(_C.connect_type == str(ConnectType.AGENT_TO_CLIENT), _C.parent_id.is_(None))
    found = await tx.execute(
        select(
            _C.incident_id,
            func.count().label("ends"),
            func.count(func.distinct(_C.user)).label("people"),
            func.count(func.distinct(_C.workspace_id)).label("workspaces"),
            func.max(_C.disconnected_at).label("until"),
            func.max(_C.workspace).label("workspace"),
            func.sum(tunnel).label("tunnels"),
        )
        .where(_C.incident_id.in_(list(ids)), visible_to(viewer))
        .group_by(_C.incident_id)
    )
    return {row["incident_id"]: row for row in found.mappings()}


async def _back_at(tx: AsyncConnection, end: ConnectionRow) -> float | None:
    """When whoever this end cut off was connected again: the next beginning of the same kind."""
    if end.workspace is None and end.user is None:
        return None
    same = [
        _C.connect_type == end.connect_type,
        _C.created_at >= end.disconnected_at,
        func.coalesce(_C.status, "") != ConnectionStatus.PENDING,
    ]
    if end.workspace is not None:
        same.append(_C.workspace == end.workspace)
    if end.connect_type is not ConnectType.SERVER_TO_AGENT:
        same.append(func.coalesce(_C.user, "") == (end.user or ""))
    back: float | None = await tx.scalar(
        select(_C.created_at).where(*same).order_by(_C.created_at).limit(1)
    )
    return back


def _told(row: RowMapping, counted: RowMapping) -> dict[str, Any]:
    element, _, name = row["element"].partition(":")
    if element == Element.AGENT:  # whose name is the workspace's id
        name = counted["workspace"] or name
    return {
        "incident_id": row["incident_id"],
        "element": element,
        "name": name,
        "cause": row["cause"],
        "title": cause_of(row["cause"]).title,
        "side": str(side_of(row["cause"])),
        "expected": cause_of(row["cause"]).expected,
        "root_event_id": row["root_event_id"],
        "began_at": iso(row["began_at"]),
        "until": iso(counted["until"]),
        "ends": counted["ends"],
        "people": counted["people"],
        "workspaces": counted["workspaces"],
        "acknowledged_at": iso_or_none(row["acknowledged_at"]),
        "acknowledged_by": row["acknowledged_by"],
    }
