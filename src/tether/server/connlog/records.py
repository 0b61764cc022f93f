"""A connection as it begins, and the queries for rows by what they are.

Law: values and reads only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.attribution.vocabulary import ConnectionMethod, ConnectionType, ConnectType
from tether.server.db.fetch import fetch_all, fetch_one
from tether.server.db.tables.connections import ConnectionRow, ConnectionStatus, connections


@dataclass(frozen=True, slots=True, kw_only=True)
class NewConnection:
    """What is known of a connection when it begins: values of its row's columns."""

    connection_id: str
    connect_type: ConnectType
    type: ConnectionType
    workspace_id: str | None = None
    workspace: str | None = None
    agent: str | None = None
    user: str | None = None
    client_ip: str | None = None
    client_session_id: str | None = None
    journal_id: str | None = None
    agent_instance: str | None = None
    node_id: str | None = None
    relay_region: str | None = None
    connection_method: ConnectionMethod = ConnectionMethod.NONE
    token_id: str | None = None


IS_CHILD = connections.c.parent_id.is_not(None)
"""An IDE session: it has a row, and no stream of its own that could be ended."""

IS_TUNNEL = and_(
    connections.c.connect_type == ConnectType.AGENT_TO_CLIENT,
    # bare, SQLite would take the index of `parent_id`, in which nearly every row has none
    func.coalesce(IS_CHILD, False).is_(False),
)
_NOT_CLOSED = connections.c.status != ConnectionStatus.CLOSED  # what the index of open rows is for
IS_ONGOING = and_(connections.c.status == ConnectionStatus.ONGOING, _NOT_CLOSED)
IS_PENDING = and_(connections.c.status == ConnectionStatus.PENDING, _NOT_CLOSED)
IS_OPEN = and_(
    connections.c.status.in_([ConnectionStatus.PENDING, ConnectionStatus.ONGOING]), _NOT_CLOSED
)


async def find(tx: AsyncConnection, connection_id: str) -> ConnectionRow | None:
    """The row, or None."""
    query = select(connections).where(connections.c.connection_id == connection_id)
    return await fetch_one(tx, query, ConnectionRow)


async def find_tunnel(
    tx: AsyncConnection, connection_id: str, user: str | None = None
) -> ConnectionRow | None:
    """The row of a tunnel; None if there is none (of `user`'s)."""
    query = select(connections).where(connections.c.connection_id == connection_id, IS_TUNNEL)
    if user is not None:
        query = query.where(connections.c.user == user)
    return await fetch_one(tx, query, ConnectionRow)


async def find_all(tx: AsyncConnection, *where: Any) -> list[ConnectionRow]:
    """The rows that match, oldest first."""
    query = select(connections).where(*where).order_by(connections.c.seq)
    return await fetch_all(tx, query, ConnectionRow)
