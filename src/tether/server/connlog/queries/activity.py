"""Reading what ran over a connection: sessions, IDE sessions, forwarded connections, file operations.

Law: reads only, of connections that the caller has found visible; what is listed is bounded, and it
shows where something is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.server.db.fetch import fetch_all, fetch_one
from tether.server.db.tables.activity import (
    ForwardRow,
    IdeSessionRow,
    SessionRow,
    file_operations,
    forwards,
    ide_sessions,
    sessions,
)
from tether.server.db.tables.connections import ConnectionRow, connections

MAX_CHILDREN = 100


@dataclass(frozen=True, slots=True)
class FileAudit:
    """What one session did to files. `more`: more is kept than is listed here."""

    session_id: str
    program: str
    operations: list[dict[str, Any]]
    more: bool
    left_out: int
    complete: bool


async def sessions_of(tx: AsyncConnection, connection_id: str) -> list[SessionRow]:
    """Its sessions, oldest first."""
    query = (
        select(sessions)
        .where(sessions.c.connection_id == connection_id)
        .order_by(sessions.c.started_at, sessions.c.session_id)
    )
    return await fetch_all(tx, query, SessionRow)


async def children_of(tx: AsyncConnection, connection_id: str) -> list[ConnectionRow]:
    """The IDE sessions that began on it, oldest first."""
    query = (
        select(connections)
        .where(connections.c.parent_id == connection_id)
        .order_by(connections.c.seq)
        .limit(MAX_CHILDREN)
    )
    return await fetch_all(tx, query, ConnectionRow)


async def ide_session_of(tx: AsyncConnection, connection_id: str) -> IdeSessionRow | None:
    """What is known of an IDE session beyond its row; None for other connections."""
    query = select(ide_sessions).where(ide_sessions.c.connection_id == connection_id)
    return await fetch_one(tx, query, IdeSessionRow)


async def forwards_of(tx: AsyncConnection, connection_id: str, limit: int) -> list[ForwardRow]:
    """Its forwarded connections that are kept, roll-ups last."""
    query = (
        select(forwards)
        .where(forwards.c.connection_id == connection_id)
        .order_by(forwards.c.forward_id.is_(None), forwards.c.forward_id, forwards.c.id)
        .limit(limit)
    )
    return await fetch_all(tx, query, ForwardRow)


async def forwards_total(tx: AsyncConnection, connection_id: str) -> int:
    """How many forwarded connections it had, those that are only counted included."""
    its = forwards.c.connection_id == connection_id
    return await tx.scalar(select(func.sum(forwards.c.started)).where(its)) or 0


async def files_of(tx: AsyncConnection, connection_id: str, limit: int) -> list[FileAudit]:
    """The file operations of its sessions, oldest session first; `limit` operations in all."""
    c = file_operations.c
    found = await tx.execute(
        select(c.session_id, c.program, c.left_out, c.complete)
        .where(c.connection_id == connection_id)
        .order_by(c.received_at, c.session_id)
    )
    audits = []
    for session_id, program, left_out, complete in found.all():
        operations: list[dict[str, Any]] = []
        more = limit <= 0
        if limit > 0:  # what is not listed is not read
            its = (c.connection_id == connection_id, c.session_id == session_id)
            kept = (await tx.execute(select(c.operations).where(*its))).scalar_one()
            operations = kept[:limit]
            more = len(kept) > limit
        limit -= len(operations)
        audits.append(FileAudit(session_id, program, operations, more, left_out, complete))
    return audits
