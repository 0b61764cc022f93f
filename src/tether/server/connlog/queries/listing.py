"""Which rows of the connection log somebody asks for, and may see: the list, and one by its id.

Law: reads only. An administrator sees everything, others the connections of their own workspaces and
their own connections.
"""

from __future__ import annotations

import re

from sqlalchemy import ColumnElement, func, literal, or_, select, true, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.server.connlog.filter import MAX_LIMIT, ConnectionFilter
from tether.server.db.fetch import fetch_all
from tether.server.db.tables.connections import ConnectionRow, ConnectionStatus, connections
from tether.server.db.tables.workspaces import workspaces
from tether.server.errors import Ambiguous, NotFound
from tether.server.identity import Identity

FEW = 2000
"""Rows that are read and sorted faster than an index is searched for those that ended lately."""

NEWEST_FIRST = (connections.c.created_at.desc(), connections.c.seq.desc())
"""The order of lists; an index of each filter has it."""

_ID = re.compile(r"[0-9a-f]{1,32}")


async def list_connections(
    tx: AsyncConnection, filters: ConnectionFilter, viewer: Identity
) -> list[ConnectionRow]:
    """Rows that match, newest first."""
    limit = min(max(filters.limit, 0), MAX_LIMIT)
    few = filters.since is not None and await _few_ended_since(tx, filters.since)
    where = [visible_to(viewer), *matching(filters, by_index=not few)]
    if few:
        c = connections.c
        lately = union_all(
            select(c.seq).where(c.disconnected_at >= filters.since),
            select(c.seq).where(c.status != ConnectionStatus.CLOSED),
        )
        where.append(c.seq.in_(lately))
    query = select(connections).where(*where).order_by(*NEWEST_FIRST).limit(limit)
    return await fetch_all(tx, query, ConnectionRow)


async def find_visible(tx: AsyncConnection, prefix: str, viewer: Identity) -> ConnectionRow:
    """The one row whose id begins with `prefix`.

    Raises:
        NotFound, Ambiguous: the prefix names none, or several, that the viewer may see.
    """
    prefix = prefix.strip().lower()
    found: list[ConnectionRow] = []
    if _ID.fullmatch(prefix):
        c = connections.c.connection_id
        query = select(connections).where(c >= prefix, c < prefix + "g", visible_to(viewer))
        found = await fetch_all(tx, query.order_by(c).limit(2), ConnectionRow)
    if not found:
        raise NotFound("connection_not_found", f"there is no connection {prefix[:40]!r}")
    if len(found) > 1 and found[0].connection_id != prefix:
        raise Ambiguous(
            "connection_ambiguous", f"several connections begin with {prefix!r}: give more of it"
        )
    return found[0]


def visible_to(viewer: Identity) -> ColumnElement[bool]:
    """The rows that are the viewer's to see."""
    if viewer.is_admin:
        return true()
    own = select(workspaces.c.workspace_id).where(workspaces.c.owner == viewer.user)
    return or_(connections.c.user == viewer.user, connections.c.workspace_id.in_(own))


def matching(filters: ConnectionFilter, *, by_index: bool = True) -> list[ColumnElement[bool]]:
    """The rows that the filter asks for; see `of_the_kind`."""
    c = connections.c
    wanted = of_the_kind(filters, by_index=by_index)
    if filters.until is not None:
        wanted.append(c.created_at < filters.until)
    if filters.since is not None:
        wanted.append(or_(c.disconnected_at.is_(None), c.disconnected_at >= filters.since))
    return wanted


def of_the_kind(filters: ConnectionFilter, *, by_index: bool) -> list[ColumnElement[bool]]:
    """The rows that the filter asks for, whenever they lived.

    SQLite keeps no statistics for us, and takes any index that fits. So only the column that leaves the
    fewest rows is offered to it, or none, where the caller has something better (`by_index=False`).
    """
    c = connections.c
    exact = {
        c.incident_id: filters.incident,
        c.workspace: filters.workspace,
        c.user: filters.user,
        c.disconnect_cause: filters.cause,
        c.disconnect_reason: filters.reason,
        c.type: filters.type,
        c.disconnect_initiator: filters.initiator,
        c.disconnect_expected: filters.expected,
        c.status: filters.status,
    }
    wanted = []
    for column, value in exact.items():
        if value is not None:
            compared = column if by_index else func.coalesce(column, column)
            wanted.append(compared == (value if isinstance(value, bool) else str(value)))
            by_index = False
    if filters.status is None:  # a grant is no connection yet
        wanted.append(c.status != ConnectionStatus.PENDING)
    return wanted


async def _few_ended_since(tx: AsyncConnection, since: float) -> bool:
    """Whether so few have ended since then that they are read rather than all that match else."""
    ended = select(literal(1)).where(connections.c.disconnected_at >= since).limit(FEW + 1)
    return (await tx.scalar(select(func.count()).select_from(ended.subquery())) or 0) <= FEW
