"""Connections as the rest of the server names them, and the queries for those that are open.

Law: values and reads only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import RowMapping, and_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.attribution.vocabulary import ConnectionMethod, ConnectionType, ConnectType
from tether.server.db.tables.connections import ConnectionStatus, connections


@dataclass(frozen=True, slots=True, kw_only=True)
class NewConnection:
    """What is known of a connection when it begins."""

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
    method: ConnectionMethod = ConnectionMethod.NONE


@dataclass(frozen=True, slots=True)
class OpenTunnel:
    """A tunnel whose row is not closed."""

    connection_id: str
    status: ConnectionStatus
    workspace_id: str
    journal_id: str
    agent_instance: str = ""
    user: str = ""

    @property
    def is_ongoing(self) -> bool:
        """Whether it is up, not only granted."""
        return self.status is ConnectionStatus.ONGOING


IS_CHILD = connections.c.parent_id.is_not(None)
"""An IDE session: it has a row, and no stream of its own that could be ended."""

IS_TUNNEL = and_(connections.c.connect_type == ConnectType.AGENT_TO_CLIENT, ~IS_CHILD)
IS_OPEN = connections.c.status != ConnectionStatus.CLOSED
IS_ONGOING = connections.c.status == ConnectionStatus.ONGOING
IS_PENDING = connections.c.status == ConnectionStatus.PENDING


async def open_rows(tx: AsyncConnection, *where: Any) -> list[RowMapping]:
    """The rows that match, oldest first."""
    found = await tx.execute(select(connections).where(*where).order_by(connections.c.seq))
    return list(found.mappings())


def open_tunnel(row: RowMapping) -> OpenTunnel:
    """What others need to know of an open tunnel's row."""
    return OpenTunnel(
        row["connection_id"],
        ConnectionStatus(row["status"]),
        row["workspace_id"] or "",
        row["journal_id"] or "",
        row["agent_instance"] or "",
        row["user"] or "",
    )
