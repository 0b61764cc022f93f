"""Path events of tunnels, inside one transaction: history is kept, and the row shows the present path.

Law: none of these is an end. What one connection may store is bounded: its first events and its newest
ones stay, and how many there were is counted. An event that only a newer agent knows is kept and changes
nothing.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.attribution.vocabulary import ConnectionMethod
from tether.protocol.messages.derp import REGION_NAME
from tether.protocol.messages.reports import PathRecord, PathWord
from tether.server.connlog.activity import MAX_NAME, bounded
from tether.server.db.fetch import fetch_all
from tether.server.db.tables.connections import (
    ConnectionRow,
    PathEventRow,
    connections,
    path_events,
)

MAX_EVENTS = 200
"""Events kept of one connection."""

FIRST_KEPT = 20
"""The first ones of these are never dropped."""

MAX_CARRIER = (1 << 31) - 1
MAX_PLACE = 255


async def keep(
    tx: AsyncConnection, row: ConnectionRow, item: PathRecord, *, since: float, now: float
) -> bool:
    """Keep one event of a tunnel that its agent reports; False where it makes no sense.

    Args:
        tx: the transaction.
        row: the connection as it is stored now.
        item: the event.
        since: from then on (server's clock) an event is reported as it happens.
        now: the server's clock.
    """
    if not 0 < item.carrier <= MAX_CARRIER or not 0 <= item.gap_s < float("inf"):
        return False
    await tx.execute(
        insert(path_events).values(
            connection_id=item.connection_id,
            at=item.at,
            received_at=now,
            event=item.event[:MAX_NAME],
            carrier=item.carrier,
            method=item.method[:MAX_NAME],
            region=item.where[:MAX_PLACE],
            peer=item.peer[:MAX_NAME],
            how=item.how[:MAX_NAME],
            errno=item.errno[:MAX_NAME],
            gap_s=item.gap_s,
            resent_bytes=bounded(item.resent_bytes),
        )
    )
    changes: dict[str, Any] = {"path_events_total": row.path_events_total + 1}
    if not row.is_closed:
        changes |= _present_path(row, item, now if item.at >= since else item.at)
    await tx.execute(
        update(connections).where(connections.c.connection_id == item.connection_id).values(changes)
    )
    if row.path_events_total >= MAX_EVENTS:
        await _drop_one(tx, item.connection_id)
    return True


async def carrier_ended(tx: AsyncConnection, row: ConnectionRow, carrier: int, now: float) -> None:
    """A relay saw a carrier end: a tunnel that used it is detached until its agent reports more."""
    in_use = row.carrier in (None, carrier) and row.connection_method is ConnectionMethod.DERP
    if row.is_ongoing and in_use and row.detached_since is None:
        await tx.execute(
            update(connections)
            .where(connections.c.connection_id == row.connection_id)
            .values(detached_since=now)
        )


async def path_of(tx: AsyncConnection, connection_id: str) -> list[PathEventRow]:
    """The events on file, oldest first."""
    query = (
        select(path_events)
        .where(path_events.c.connection_id == connection_id)
        .order_by(path_events.c.id)
    )
    return await fetch_all(tx, query, PathEventRow)


def _present_path(row: ConnectionRow, item: PathRecord, at: float) -> dict[str, Any]:
    """What an event changes about the row of an open tunnel."""
    match item.event:
        case PathWord.USED | PathWord.RESUMED:
            changes: dict[str, Any] = {"carrier": item.carrier, "detached_since": None}
            if item.method in ConnectionMethod._value2member_map_:
                changes["connection_method"] = item.method
                changes["relay_region"] = _relay_of(row, item)
            return changes
        case PathWord.DETACHED if row.detached_since is None:
            return {"detached_since": at}
        case _:
            return {}


def _relay_of(row: ConnectionRow, item: PathRecord) -> str | None:
    """The region of the relay that the tunnel goes through now; a direct carrier needs none."""
    if item.method != ConnectionMethod.DERP:
        return None
    return item.where if REGION_NAME.fullmatch(item.where) else row.relay_region


async def _drop_one(tx: AsyncConnection, connection_id: str) -> None:
    """Make room: the oldest event behind the first ones goes."""
    mine = path_events.c.connection_id == connection_id
    kept = await tx.scalar(select(func.count()).select_from(path_events).where(mine))
    if (kept or 0) <= MAX_EVENTS:
        return
    oldest = (
        select(path_events.c.id)
        .where(mine)
        .order_by(path_events.c.id)
        .offset(FIRST_KEPT)
        .limit(1)
        .scalar_subquery()
    )
    await tx.execute(delete(path_events).where(path_events.c.id == oldest))
