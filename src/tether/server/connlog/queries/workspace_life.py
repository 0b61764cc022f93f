"""A workspace's last days: when its agent was connected, what it was connected by, what ended and why.

Law: reads only, of what is the viewer's to see; bounded by the rows of one workspace in the span.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.attribution.sides import side_of
from tether.attribution.vocabulary import ConnectType
from tether.server.connlog.queries.listing import visible_to
from tether.server.db.fetch import fetch_all
from tether.server.db.tables.connections import ConnectionRow, ConnectionStatus, connections
from tether.server.db.tables.workspaces import intents
from tether.server.identity import Identity
from tether.server.times import iso

_C = connections.c

LINKS, ENDS, OPEN, INTENTS = 500, 100, 100, 50


async def life(
    tx: AsyncConnection, workspace_id: str, viewer: Identity, now: float, *, span_s: float
) -> dict[str, Any]:
    """Its agent's links, open tunnels, and latest ends."""
    since = now - span_s
    its = and_(_C.workspace_id == workspace_id, visible_to(viewer))
    lived = or_(_C.disconnected_at.is_(None), _C.disconnected_at >= since)
    links = (
        select(connections)
        .where(its, _C.connect_type == str(ConnectType.SERVER_TO_AGENT), lived)
        .order_by(_C.seq.desc())
        .limit(LINKS)
    )
    tunnel = and_(_C.connect_type == str(ConnectType.AGENT_TO_CLIENT), _C.parent_id.is_(None))
    open_now = (
        select(connections)
        .where(its, tunnel, _C.status == str(ConnectionStatus.ONGOING))
        .order_by(_C.seq.desc())
        .limit(OPEN)
    )
    ends = (
        select(connections)
        .where(its, tunnel, func.coalesce(_C.disconnected_at, 0.0) >= since)
        .order_by(_C.seq.desc())
        .limit(ENDS)
    )
    i = intents.c
    asked = await tx.execute(
        select(i.kind, i.cause, i.actor, i.requested_by, i.at)
        .where(i.workspace_id == workspace_id)
        .order_by(i.at.desc())
        .limit(INTENTS)
    )
    return {
        "since": iso(since),
        "until": iso(now),
        "links": [
            {
                "connection_id": row.connection_id,
                "from_at": max(since, row.connected_at or row.created_at),
                "until_at": row.disconnected_at,
                "cause": row.disconnect_cause,
                "expected": row.disconnect_expected,
                "side": row.disconnect_cause and str(side_of(row.disconnect_cause)),
            }
            for row in reversed(await fetch_all(tx, links, ConnectionRow))
        ],
        "open": await fetch_all(tx, open_now, ConnectionRow),
        "ends": await fetch_all(tx, ends, ConnectionRow),
        "intents": [{**row, "at": iso(row["at"])} for row in asked.mappings()],
    }
