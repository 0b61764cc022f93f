"""What a restart of the server did to people: dropped them, let them resume, or went unnoticed.

Law: reads only, of what is the viewer's to see. A tunnel belongs to a restart if it was open when the
server went, and is one of three: it ended, it lost its way and found it again, or neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import RowMapping, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.attribution.vocabulary import ConnectType
from tether.server.connlog.queries.listing import visible_to
from tether.server.db.tables.connections import ConnectionStatus, connections, path_events
from tether.server.db.tables.server_runs import runs
from tether.server.errors import NotFound
from tether.server.identity import Identity
from tether.server.times import iso, iso_or_none

_C, _R, _P = connections.c, runs.c, path_events.c

LISTED = 200
"""People of each of the three that are listed."""

AROUND_S = 10.0
"""Before a server was down, and after it was up again, for which it is the reason, too."""

RESUME_S = 300.0
"""How long after a restart a way may be found again for it still to be this restart's."""


async def restarts(tx: AsyncConnection, limit: int) -> list[dict[str, Any]]:
    """The runs of the server, newest first, each with how the one before it ended."""
    found = await tx.execute(select(runs).order_by(_R.started_at.desc()).limit(limit + 1))
    rows = found.mappings().all()
    told = []
    for at, row in enumerate(rows[:limit]):
        before = rows[at + 1] if at + 1 < len(rows) else None
        told.append(_restart(row, before))
    return told


async def compare(tx: AsyncConnection, run_id: str, viewer: Identity) -> dict[str, Any]:
    """What the restart that began this run did.

    Raises:
        NotFound: there is no such run, or none before it.
    """
    row = (await tx.execute(select(runs).where(_R.run_id == run_id))).mappings().one_or_none()
    if row is None:
        raise NotFound("run_not_found", f"there is no run {run_id[:40]!r} of this server")
    earlier = select(runs).where(_R.started_at < row["started_at"])
    before = (
        (await tx.execute(earlier.order_by(_R.started_at.desc()).limit(1))).mappings().one_or_none()
    )
    restart = _restart(row, before)
    if before is None:
        return {**restart, "dropped": [], "resumed": [], "unnoticed": [], "open": 0}
    down = before["stopped_cleanly_at"] or before["last_alive_at"]
    up = row["started_at"]
    open_then = and_(
        _C.connect_type == str(ConnectType.AGENT_TO_CLIENT),
        _C.parent_id.is_(None),
        _C.status != str(ConnectionStatus.PENDING),
        _C.connected_at < down - AROUND_S,
        or_(_C.disconnected_at.is_(None), _C.disconnected_at >= down - AROUND_S),
        visible_to(viewer),
    )
    resumed = (
        select(_P.connection_id, func.sum(_P.gap_s).label("gap_s"))
        .where(_P.event == "resumed", _P.received_at.between(down - AROUND_S, up + RESUME_S))
        .group_by(_P.connection_id)
        .subquery()
    )
    found = await tx.execute(
        select(
            _C.connection_id,
            _C.user,
            _C.workspace,
            _C.disconnected_at,
            _C.disconnect_cause,
            resumed.c.gap_s,
        )
        .outerjoin_from(connections, resumed, resumed.c.connection_id == _C.connection_id)
        .where(open_then)
        .order_by(_C.seq.desc())
        .limit(20 * LISTED)
    )
    return {**restart, **_sorted(found.mappings().all(), up)}


def _sorted(tunnels: Sequence[RowMapping], up: float) -> dict[str, Any]:
    """The tunnels that were open, by what the restart did to them."""
    sorts: dict[str, list[dict[str, Any]]] = {"dropped": [], "resumed": [], "unnoticed": []}
    for one in tunnels:
        ended = one["disconnected_at"]
        if ended is not None and ended <= up + AROUND_S:
            sort = "dropped"
        else:
            sort = "unnoticed" if one["gap_s"] is None else "resumed"
        if len(sorts[sort]) < LISTED:
            dropped = sort == "dropped"
            sorts[sort].append(
                {
                    "connection_id": one["connection_id"],
                    "user": one["user"],
                    "workspace": one["workspace"],
                    "gap_s": one["gap_s"],
                    "cause": one["disconnect_cause"] if dropped else None,
                    "ended_at": iso_or_none(ended) if dropped else None,
                }
            )
    return {**sorts, "open": len(tunnels)}


def _restart(row: Any, before: Any) -> dict[str, Any]:
    down = before and (before["stopped_cleanly_at"] or before["last_alive_at"])
    return {
        "run_id": row["run_id"],
        "started_at": iso(row["started_at"]),
        "stopped_at": iso_or_none(down),
        "down_s": None if down is None else round(max(0.0, row["started_at"] - down), 1),
        "died": bool(before) and before["stopped_cleanly_at"] is None,
        "version": row["version"],
        "version_before": before["version"] if before else "",
        "deploy": bool(before) and row["version"] != before["version"],
    }
