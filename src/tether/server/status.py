"""What is so at this moment: agents, relays, open connections, and whether the server can serve.

Law: reads only, and shows a viewer what is theirs. What is asked often is counted by the index of open
rows, so that it costs the same however long the log is.
"""

from __future__ import annotations

import asyncio
import resource
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.attribution.vocabulary import ConnectType
from tether.net.clock import Clock
from tether.protocol.messages.derp import NodeStatus
from tether.server.connlog.queries.listing import visible_to
from tether.server.db.store import Store
from tether.server.db.tables.connections import ConnectionStatus, connections
from tether.server.db.tables.server_runs import report_cursors, runs
from tether.server.db.tables.workspaces import workspaces as workspace_table
from tether.server.derp.map import Regions
from tether.server.identity import Identity
from tether.server.workspaces import Workspaces


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The numbers at the top of the pages; for a viewer who is no administrator, of what is theirs."""

    agents_connected: int
    agents_total: int
    relays_up: int
    relays_total: int
    sessions_open: int
    detached_now: int


class ServerStatus:
    """Counts what is there now."""

    def __init__(
        self, store: Store, workspaces: Workspaces, regions: Regions, clock: Clock
    ) -> None:
        self._store = store
        self._workspaces = workspaces
        self._regions = regions
        self._clock = clock

    async def now(self, viewer: Identity) -> Status:
        """The numbers that `viewer` may see.

        Raises:
            StoreUnavailable: it cannot be read.
        """
        infos = await self._workspaces.list(viewer)
        opened, detached = await self._store.read(lambda tx: _open(tx, viewer))
        nodes = [node for region in self._regions.map_for().regions for node in region.nodes]
        return Status(
            agents_connected=sum(info.agent_status == "connected" for info in infos),
            agents_total=len(infos),
            relays_up=sum(node.status == NodeStatus.OK for node in nodes),
            relays_total=len(nodes),
            sessions_open=opened,
            detached_now=detached,
        )

    async def own_state(self) -> dict[str, Any]:
        """What the server knows of itself: keys of the API's `ServerView`."""
        now = self._clock.now()

        async def look(tx: AsyncConnection) -> tuple[str, int, int, float | None]:
            listed = await tx.exec_driver_sql("PRAGMA database_list")
            path = str(listed.mappings().one()["file"])
            most = await tx.scalar(select(func.max(connections.c.seq)))
            journals = await tx.scalar(select(func.count()).select_from(report_cursors))
            began = await tx.scalar(select(func.max(runs.c.started_at)))
            return path, most or 0, journals or 0, began

        path, most, journals, began = await self._store.read(look)
        sizes = await asyncio.to_thread(_sizes, Path(path))
        return {
            **sizes,
            "connections": most,
            "journals": journals,
            "up_s": round(now.wall - (began or now.wall), 1),
        }

    async def owned(self, viewer: Identity) -> frozenset[str]:
        """The ids of the viewer's own workspaces, those that were deleted included."""
        c = workspace_table.c
        wanted = select(c.workspace_id).where(c.owner == viewer.user)

        async def fetch(tx: AsyncConnection) -> frozenset[str]:
            return frozenset((await tx.execute(wanted)).scalars())

        return await self._store.read(fetch)


async def _open(tx: AsyncConnection, viewer: Identity) -> tuple[int, int]:
    """Tunnels that are open, and those of them that are detached."""
    c = connections.c
    wanted = select(func.count(), func.count(c.detached_since)).where(
        c.status == str(ConnectionStatus.ONGOING),
        c.status != str(ConnectionStatus.CLOSED),  # what the index of open rows is made for
        c.connect_type == str(ConnectType.AGENT_TO_CLIENT),
        c.parent_id.is_(None),
        visible_to(viewer),
    )
    opened, detached = (await tx.execute(wanted)).one()
    return int(opened), int(detached)


def _sizes(database: Path) -> dict[str, int]:
    """Of the database with its log, of the disk below it, and of this process."""
    files = (database, database.with_name(database.name + "-wal"))
    disk = shutil.disk_usage(database.parent)
    pages = int(Path("/proc/self/statm").read_text().split()[1]) if sys.platform == "linux" else 0
    return {
        "database_bytes": sum(file.stat().st_size for file in files if file.exists()),
        "disk_bytes": disk.total,
        "disk_free_bytes": disk.free,
        "memory_bytes": pages * resource.getpagesize(),
    }
