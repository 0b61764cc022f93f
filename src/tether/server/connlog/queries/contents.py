"""Reading what ran over a connection: sessions, IDE sessions, forwarded connections, file operations.

Law: reads only, of connections that the caller has found visible; what is listed is bounded, and says
so where it leaves something out. Rows become the API's plain data here.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import RowMapping, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.server.db.tables.activity import file_operations, forwards, ide_sessions, sessions
from tether.server.db.tables.connections import connections
from tether.server.times import iso, iso_or_none

MAX_CHILDREN = 100


async def sessions_of(tx: AsyncConnection, connection_id: str) -> list[dict[str, Any]]:
    """Its sessions, oldest first."""
    found = await tx.execute(
        select(sessions)
        .where(sessions.c.connection_id == connection_id)
        .order_by(sessions.c.started_at, sessions.c.session_id)
    )
    return [
        {
            "session_id": row["session_id"],
            "session_type": row["session_type"],
            "app": row["app"],
            "pty": row["pty"],
            "subsystem": row["subsystem"],
            "started_at": iso(row["started_at"]),
            "ended_at": iso_or_none(row["ended_at"]),
            "process_ended_at": iso_or_none(row["process_ended_at"]),
            "exit_code": row["exit_code"],
            "exit_signal": row["exit_signal"],
        }
        for row in found.mappings()
    ]


async def children_of(tx: AsyncConnection, connection_id: str) -> list[dict[str, Any]]:
    """The IDE sessions that began on it, oldest first."""
    found = await tx.execute(
        select(connections)
        .where(connections.c.parent_id == connection_id)
        .order_by(connections.c.seq)
        .limit(MAX_CHILDREN)
    )
    return [
        {
            "connection_id": row["connection_id"],
            "type": row["type"],
            "status": row["status"],
            "connected_at": iso_or_none(row["connected_at"]),
            "disconnected_at": iso_or_none(row["disconnected_at"]),
            "disconnect_cause": row["disconnect_cause"],
        }
        for row in found.mappings()
    ]


async def ide_of(tx: AsyncConnection, connection_id: str) -> dict[str, Any] | None:
    """What is known of an IDE session beyond its row; None for other connections."""
    found = await tx.execute(
        select(ide_sessions).where(ide_sessions.c.connection_id == connection_id)
    )
    row = found.mappings().one_or_none()
    if row is None:
        return None
    return {
        "backend_pid": row["backend_pid"],
        "backend_marker": row["backend_marker"],
        "caused_by": row["caused_by"] or None,
        "channels": [_channel(one) for one in row["channels"]],
        "channels_total": row["channels_total"],
    }


async def forwards_of(
    tx: AsyncConnection, connection_id: str, limit: int
) -> tuple[int, list[dict[str, Any]]]:
    """How many forwarded connections it had, and those that are kept, roll-ups last."""
    mine = forwards.c.connection_id == connection_id
    total: int | None = await tx.scalar(select(func.sum(forwards.c.started)).where(mine))
    found = await tx.execute(
        select(forwards)
        .where(mine)
        .order_by(forwards.c.forward_id.is_(None), forwards.c.forward_id, forwards.c.id)
        .limit(limit)
    )
    return total or 0, [_forward(row) for row in found.mappings()]


async def files_of(tx: AsyncConnection, connection_id: str, limit: int) -> list[dict[str, Any]]:
    """The file operations of its sessions, oldest session first; `limit` operations in all."""
    kept = file_operations.c
    found = await tx.execute(
        select(kept.session_id, kept.program, kept.left_out, kept.complete)
        .where(kept.connection_id == connection_id)
        .order_by(kept.received_at, kept.session_id)
    )
    told = []
    for row in found.mappings().all():
        operations: list[dict[str, Any]] = []
        more = limit <= 0
        if limit > 0:
            stored: list[dict[str, Any]] = (
                await tx.execute(
                    select(kept.operations).where(
                        kept.connection_id == connection_id, kept.session_id == row["session_id"]
                    )
                )
            ).scalar_one()
            operations = [{**one, "first_at": iso(one["first_at"])} for one in stored[:limit]]
            more = len(stored) > limit
        limit -= len(operations)
        told.append({**row, "operations": operations, "more": more})
    return told


def _channel(one: dict[str, Any]) -> dict[str, Any]:
    return {**one, "started_at": iso(one["started_at"]), "ended_at": iso(one["ended_at"])}


def _forward(row: RowMapping) -> dict[str, Any]:
    alone = row["forward_id"] is not None
    return {
        "forward_id": row["forward_id"],
        "kind": row["kind"],
        "destination": row["destination"],
        "origin": row["origin"],
        "started_at": iso(row["started_at"]),
        "ended_at": iso_or_none(row["ended_at"]),
        "duration_s": round(row["duration_s"], 3),
        "count": row["started"],
        "end": next(iter(row["ends"]), "") if alone else "",
        "ends": row["ends"],
        "cause": row["cause"],
        "detail": row["detail"],
        "rx_bytes": row["rx_bytes"],
        "tx_bytes": row["tx_bytes"],
    }
