"""What control links need to know of workspaces, and what they learn about their agents.

Law: small reads and writes of the table `workspaces`; who may see what is decided as in
`workspaces.py`: the owner and administrators.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, select, update

from tether.server.db.fetch import fetch_one
from tether.server.db.store import Store
from tether.server.db.tables.workspaces import WorkspaceRow, WorkspaceState, workspaces
from tether.server.identity import Identity


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceEntry:
    """A workspace that is not deleted."""

    workspace_id: str
    name: str
    owner: str
    running: bool
    host_key: str
    agent_last_seen_at: float | None


class Directory:
    """Workspaces, as far as control links need them."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def by_id(self, workspace_id: str) -> WorkspaceEntry | None:
        """The workspace, or None if it is gone."""
        return await self._one(workspaces.c.workspace_id == workspace_id)

    async def by_name(self, name: str, viewer: Identity) -> WorkspaceEntry | None:
        """The workspace of this name that `viewer` may use, or None."""
        entry = await self._one(workspaces.c.name == name)
        if entry is None or not (viewer.is_admin or entry.owner == viewer.user):
            return None
        return entry

    async def may_use(self, workspace_id: str, viewer: Identity) -> bool:
        """Whether there is such a workspace, and `viewer` may use it."""
        entry = await self.by_id(workspace_id)
        return entry is not None and (viewer.is_admin or entry.owner == viewer.user)

    async def agent_came(
        self, workspace_id: str, *, version: str, hostname: str, host_key: str, at: float
    ) -> None:
        """An agent was welcomed."""
        values = {"agent_version": version, "agent_hostname": hostname, "agent_last_seen_at": at}
        if host_key:
            values["host_key"] = host_key
        changed = (
            update(workspaces)
            .where(workspaces.c.workspace_id == workspace_id)
            .values(
                agent_first_seen_at=func.coalesce(workspaces.c.agent_first_seen_at, at), **values
            )
        )
        await self._store.write(lambda tx: tx.execute(changed))

    async def agent_left(self, workspace_id: str, at: float) -> None:
        """The workspace's agent is not connected any more; it was last heard `at` (wall clock)."""
        changed = (
            update(workspaces)
            .where(workspaces.c.workspace_id == workspace_id)
            .values(agent_last_seen_at=at)
        )
        await self._store.write(lambda tx: tx.execute(changed))

    async def _one(self, where: ColumnElement[bool]) -> WorkspaceEntry | None:
        query = select(workspaces).where(where, workspaces.c.deleted_at.is_(None))
        row = await self._store.read(lambda tx: fetch_one(tx, query, WorkspaceRow))
        if row is None:
            return None
        return WorkspaceEntry(
            workspace_id=row.workspace_id,
            name=row.name,
            owner=row.owner,
            running=row.state is WorkspaceState.RUNNING,
            host_key=row.host_key or "",
            agent_last_seen_at=row.agent_last_seen_at,
        )
