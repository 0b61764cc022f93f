"""Path events of tunnels, inside one transaction: history is kept, and the row shows where it is now.

Law: none of these is an end. What one connection may store is bounded: its first events and its newest
ones stay, and how many there were is counted. A word of a newer agent is kept and changes nothing.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import RowMapping, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.attribution.vocabulary import ConnectionMethod
from tether.protocol.messages.derp import REGION_NAME
from tether.protocol.messages.reports import PathRecord, PathWord
from tether.server.connlog.activity import MAX_WORD, bounded
from tether.server.db.tables.connections import ConnectionStatus, connections, path_events
from tether.server.times import iso

MAX_EVENTS, FIRST_KEPT = 200, 20
"""Events kept of one connection; of these, the first ones that are never dropped."""

MAX_CARRIER = (1 << 31) - 1
MAX_PLACE = 255


async def keep(
    tx: AsyncConnection, row: RowMapping, item: PathRecord, *, since: float, now: float
) -> bool:
    """Keep one event of a tunnel that its agent reports; False where it makes no sense.

    Args:
        tx: the transaction.
        row: the connection as it is stored now.
        item: the event.
        since: from then on (server's clock) an event is told as it happens.
        now: the server's clock.
    """
    if not 0 < item.carrier <= MAX_CARRIER or not 0 <= item.gap_s < float("inf"):
        return False
    await tx.execute(
        insert(path_events).values(
            connection_id=item.connection_id,
            at=item.at,
            received_at=now,
            event=item.event[:MAX_WORD],
            carrier=item.carrier,
            method=item.method[:MAX_WORD],
            region=item.where[:MAX_PLACE],
            peer=item.peer[:MAX_WORD],
            how=item.how[:MAX_WORD],
            errno=item.errno[:MAX_WORD],
            gap_s=item.gap_s,
            resent_bytes=bounded(item.resent_bytes),
        )
    )
    changes: dict[str, Any] = {"path_events_total": row["path_events_total"] + 1}
    if row["status"] != ConnectionStatus.CLOSED:
        changes |= _where_it_is(row, item, now if item.at >= since else item.at)
    await tx.execute(
        update(connections).where(connections.c.connection_id == item.connection_id).values(changes)
    )
    if row["path_events_total"] >= MAX_EVENTS:
        await _drop_one(tx, item.connection_id)
    return True


async def left_by_relay(tx: AsyncConnection, row: RowMapping, carrier: int, now: float) -> None:
    """Our relay saw a carrier end: if the tunnel was on it, it is detached until the agent says more."""
    on_it = row["carrier"] in (None, carrier) and row["connection_method"] == ConnectionMethod.DERP
    if row["status"] == ConnectionStatus.ONGOING and on_it and row["detached_since"] is None:
        await tx.execute(
            update(connections)
            .where(connections.c.connection_id == row["connection_id"])
            .values(detached_since=now)
        )


async def history(tx: AsyncConnection, connection_id: str) -> list[dict[str, Any]]:
    """The events on file, oldest first, as the API's plain data."""
    found = await tx.execute(
        select(path_events)
        .where(path_events.c.connection_id == connection_id)
        .order_by(path_events.c.id)
    )
    return [
        {
            "at": iso(one["at"]),
            "event": one["event"],
            "carrier": one["carrier"],
            "method": one["method"],
            "where": one["region"],
            "peer": one["peer"],
            "how": one["how"],
            "errno": one["errno"],
            "gap_s": round(one["gap_s"], 3),
            "resent_bytes": one["resent_bytes"],
        }
        for one in found.mappings()
    ]


def _where_it_is(row: RowMapping, item: PathRecord, at: float) -> dict[str, Any]:
    match item.event:
        case PathWord.USED | PathWord.RESUMED:
            here: dict[str, Any] = {"carrier": item.carrier, "detached_since": None}
            if item.method in ConnectionMethod._value2member_map_:
                here["connection_method"] = item.method
                here["relay_region"] = _relay_of(row, item)
            return here
        case PathWord.DETACHED if row["detached_since"] is None:
            return {"detached_since": at}
        case _:
            return {}


def _relay_of(row: RowMapping, item: PathRecord) -> str | None:
    """The relay that the tunnel stands on now; a direct carrier stands on none."""
    if item.method != ConnectionMethod.DERP:
        return None
    named = REGION_NAME.fullmatch(item.where)
    region: str | None = item.where if named else row["relay_region"]
    return region


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
