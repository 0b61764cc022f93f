"""The other side of the API's ports, in memory, and a server's parts over a real database file.

Law: these keep what they are told and decide nothing; the real ones are tested on their own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.clock import HandClock
from tests.support.server.database import put_empty
from tether.protocol.derp.latency import RegionLatency
from tether.server.api.ports import ConnectionFilter
from tether.server.auth.accounts import Accounts
from tether.server.db.store import Store
from tether.server.derp.map import Regions
from tether.server.derp.map_store import DerpMaps
from tether.server.errors import Ambiguous, NotFound
from tether.server.identity import Identity
from tether.server.metrics import Metrics
from tether.server.workspaces import Workspaces


@dataclass
class MemoryHub:
    """A `HubPort` whose agents are a set of workspace ids."""

    connected: set[str] = field(default_factory=set)
    told: list[tuple[str, ...]] = field(default_factory=list)

    async def stop_workspace(
        self, workspace_id: str, cause: str, actor: str, detail: str = ""
    ) -> None:
        self.connected.discard(workspace_id)
        self.told.append(("stop", workspace_id, cause, actor, detail))

    async def start_workspace(self, workspace_id: str) -> None:
        self.told.append(("start", workspace_id))

    async def delete_workspace(self, workspace_id: str, cause: str, actor: str) -> None:
        self.connected.discard(workspace_id)
        self.told.append(("delete", workspace_id, cause, actor))

    async def revoke_user(self, user: str, actor: str) -> None:
        self.told.append(("revoke_user", user, actor))

    async def revoke_token(self, token_id: str) -> None:
        self.told.append(("revoke_token", token_id))

    def agent_nearness(self, workspace_id: str) -> RegionLatency:
        return RegionLatency()

    def agent_connected(self, workspace_id: str) -> bool:
        return workspace_id in self.connected


@dataclass
class MemoryConnectionLog:
    """A `ConnectionLogPort` over a list of rows."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    asked: list[tuple[ConnectionFilter, Identity]] = field(default_factory=list)

    async def list(self, filters: ConnectionFilter, viewer: Identity) -> list[dict[str, Any]]:
        self.asked.append((filters, viewer))
        return self.rows[: filters.limit]

    async def explain(self, connection_id_or_prefix: str, viewer: Identity) -> dict[str, Any]:
        found = [r for r in self.rows if r["connection_id"].startswith(connection_id_or_prefix)]
        if not found:
            raise NotFound("connection_not_found", "there is no such connection")
        if len(found) > 1:
            raise Ambiguous("connection_ambiguous", "several connections begin like this")
        return found[0]

    async def forwards(
        self, connection_id_or_prefix: str, viewer: Identity, limit: int
    ) -> Sequence[dict[str, Any]]:
        found: Sequence[dict[str, Any]] = (await self.explain(connection_id_or_prefix, viewer))[
            "forwards"
        ]
        return found[:limit]

    async def files(
        self, connection_id_or_prefix: str, viewer: Identity, limit: int
    ) -> Sequence[dict[str, Any]]:
        found: Sequence[dict[str, Any]] = (await self.explain(connection_id_or_prefix, viewer))[
            "file_operations"
        ]
        return found[:limit]

    async def report(
        self, filters: ConnectionFilter, viewer: Identity, by: Collection[str]
    ) -> dict[str, Any]:
        raise NotImplementedError("what counts rows needs a database")

    async def rejudge(
        self, filters: ConnectionFilter, viewer: Identity, *, write: bool
    ) -> dict[str, Any]:
        raise NotImplementedError("what judges rows needs a database")


@dataclass
class Parts:
    """A server without its links and its relay."""

    path: Path
    clock: HandClock
    store: Store
    accounts: Accounts
    hub: MemoryHub
    connlog: MemoryConnectionLog
    workspaces: Workspaces
    metrics: Metrics
    derp_maps: DerpMaps


@asynccontextmanager
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    """A server's parts, over a database file in `tmp_path`."""
    clock, hub = HandClock(), MemoryHub()
    path = put_empty(tmp_path / "server.db")
    store = await Store.open(path)
    try:
        accounts = Accounts(store, clock)
        yield Parts(
            path=path,
            clock=clock,
            store=store,
            accounts=accounts,
            hub=hub,
            connlog=MemoryConnectionLog(),
            workspaces=Workspaces(store, accounts, hub, clock),
            metrics=Metrics(),
            derp_maps=DerpMaps(store, clock, Regions(None), from_file=False),
        )
    finally:
        await store.close()
