"""A server's parts over a real database file, without links and relay: a hub in memory stands for them.

Law: the hub keeps what it is told and decides nothing; the real one is tested on its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.clock import HandClock
from tests.support.server.database import put_empty
from tether.protocol.derp.latency import RegionLatency
from tether.server.auth.accounts import Accounts
from tether.server.connlog.log import ConnectionLog
from tether.server.db.store import Store
from tether.server.db.tables.connections import ConnectionRow
from tether.server.derp.map import Regions
from tether.server.derp.map_store import DerpMaps
from tether.server.metrics import Metrics
from tether.server.workspaces import Workspaces


@dataclass
class MemoryHub:
    """The control links, for workspaces and for the API; its agents are a set of workspace ids."""

    connected: dict[str, float] = field(default_factory=dict)  # workspace -> last heard
    told: list[tuple[str, ...]] = field(default_factory=list)

    async def stop_workspace(
        self, workspace_id: str, cause: str, actor: str, detail: str = ""
    ) -> None:
        self.connected.pop(workspace_id, None)
        self.told.append(("stop", workspace_id, cause, actor, detail))

    async def start_workspace(self, workspace_id: str) -> None:
        self.told.append(("start", workspace_id))

    async def delete_workspace(self, workspace_id: str, cause: str, actor: str) -> None:
        self.connected.pop(workspace_id, None)
        self.told.append(("delete", workspace_id, cause, actor))

    async def revoke_user(self, user: str, actor: str) -> None:
        self.told.append(("revoke_user", user, actor))

    async def revoke_tokens(self, token_ids: Collection[str], actor: str) -> None:
        self.told.append(("revoke_tokens", *sorted(token_ids), actor))

    async def end_connection(self, row: ConnectionRow, actor: str, detail: str) -> None:
        self.told.append(("end", row.connection_id, actor, detail))

    def replace_token(self, token_id: str, actor: str, grace_s: float) -> None:
        self.told.append(("replace_token", token_id, actor))

    def agent_latency(self, workspace_id: str) -> RegionLatency:
        return RegionLatency()

    def agent_heard_at(self, workspace_id: str) -> float | None:
        return self.connected.get(workspace_id)


@dataclass
class Parts:
    """A server without its links and its relay."""

    path: Path
    clock: HandClock
    store: Store
    accounts: Accounts
    hub: MemoryHub
    connections: ConnectionLog
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
        accounts, metrics = Accounts(store, clock), Metrics()
        yield Parts(
            path=path,
            clock=clock,
            store=store,
            accounts=accounts,
            hub=hub,
            connections=ConnectionLog(store, clock, metrics),
            workspaces=Workspaces(store, accounts, hub, clock),
            metrics=metrics,
            derp_maps=DerpMaps(store, clock, Regions(None), from_file=False),
        )
    finally:
        await store.close()
