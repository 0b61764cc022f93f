"""Workspaces: made, stopped, started and deleted, and who asked for it.

Law: the database first, the agent second: what a person asked for is committed, with its intent,
before the hub ends anything, so no new tunnel slips in and a crash in between loses nothing. What a
viewer may not see does not exist for them. One change of one workspace at a time.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol
from weakref import WeakValueDictionary

from sqlalchemy import Select, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.attribution.causes.catalogue import WORKSPACE_STOPS
from tether.net.clock import Clock
from tether.protocol.derp.latency import NOT_MEASURED, RegionLatency
from tether.server.auth.accounts import REPLACED_S, Accounts, Rotated
from tether.server.db.fetch import fetch_all, fetch_one
from tether.server.db.store import Store
from tether.server.db.tables.workspaces import (
    IntentKind,
    WorkspaceRow,
    WorkspaceState,
    intents,
    workspaces,
)
from tether.server.errors import Conflict, Forbidden, Invalid, NotFound
from tether.server.identity import Identity

MAX_WORKSPACES_A_USER = 100
"""Workspaces of a member that are not deleted; what administrators make, they answer for."""

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")


class StopReason(StrEnum):
    """`tether workspace stop --reason WORD`: the keys of `causes.WORKSPACE_STOPS`."""

    USER = "user"
    AUTOSTOP = "autostop"
    DELETED = "deleted"
    EVICTED = "evicted"


class AgentStatus(StrEnum):
    """Whether a workspace's agent is connected now."""

    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    NEVER_CONNECTED = "never_connected"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceInfo:
    """A workspace as its viewers see it. Times are unix seconds."""

    workspace_id: str
    name: str
    owner: str
    state: WorkspaceState
    created_at: float
    host_key: str | None
    agent_status: AgentStatus
    agent_version: str | None
    agent_hostname: str | None
    agent_last_seen_at: float | None
    agent_latency: RegionLatency = NOT_MEASURED
    agent_state: str | None = None
    """The newest state of its life that the agent has reported, and since when by its clock."""
    agent_state_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """A new workspace; its agent's token can be read only now."""

    workspace_id: str
    name: str
    agent_token: str


class LiveAgents(Protocol):
    """What workspaces need of the control links; `control.hub.Hub` says what each does."""

    async def stop_workspace(
        self, workspace_id: str, cause: str, actor: str, detail: str = ""
    ) -> None: ...

    async def start_workspace(self, workspace_id: str) -> None: ...

    async def delete_workspace(self, workspace_id: str, cause: str, actor: str) -> None: ...

    async def revoke_tokens(self, token_ids: Collection[str], actor: str) -> None: ...

    def replace_token(self, token_id: str, actor: str, grace_s: float) -> None: ...

    def agent_heard_at(self, workspace_id: str) -> float | None: ...

    def agent_latency(self, workspace_id: str) -> RegionLatency: ...


class Workspaces:
    """Every workspace, and the only way to change one."""

    def __init__(self, store: Store, accounts: Accounts, hub: LiveAgents, clock: Clock) -> None:
        self._store = store
        self._accounts = accounts
        self._hub = hub
        self._clock = clock
        self._changing: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def create(self, name: str, by: Identity) -> Created:
        """A new, running workspace of `by`, which waits for its agent.

        Raises:
            Invalid, Conflict, Forbidden: the name is no name, or is taken, or `by` has too many.
        """
        if NAME.fullmatch(name) is None:
            raise Invalid(
                "bad_name",
                f"{name[:40]!r} cannot be a workspace's name: use 1 to 32 of a-z, 0-9 and '-', with a"
                " letter or a digit at both ends",
            )
        workspace_id = uuid.uuid4().hex

        async def make(connection: AsyncConnection) -> Rotated:
            if (await connection.execute(_live(name))).first() is not None:
                raise Conflict(
                    "workspace_exists", f"the name {name} is taken by another workspace: choose one"
                )
            if not by.is_admin and await _owned(connection, by.user) >= MAX_WORKSPACES_A_USER:
                raise Forbidden(
                    "too_many_workspaces",
                    f"{by.user} has {MAX_WORKSPACES_A_USER} workspaces: delete one, or ask an"
                    " administrator to create this one",
                )
            await connection.execute(
                insert(workspaces).values(
                    workspace_id=workspace_id,
                    name=name,
                    owner=by.user,
                    state=WorkspaceState.RUNNING,
                    created_at=self._clock.now().wall,
                )
            )
            await self._intend(connection, IntentKind.CREATE, workspace_id, name, by, by.user)
            return await self._accounts.rotate_agent_token(connection, workspace_id, by)

        rotated = await self._store.write(make)
        return Created(workspace_id=workspace_id, name=name, agent_token=rotated.issued.token)

    async def list(self, viewer: Identity) -> list[WorkspaceInfo]:
        """The workspaces that `viewer` may see, by name."""
        wanted = select(workspaces).where(workspaces.c.deleted_at.is_(None))
        if not viewer.is_admin:
            wanted = wanted.where(workspaces.c.owner == viewer.user)

        wanted = wanted.order_by(workspaces.c.name)
        rows = await self._store.read(lambda tx: fetch_all(tx, wanted, WorkspaceRow))
        return [self._info(row) for row in rows]

    async def get(self, name: str, viewer: Identity) -> WorkspaceInfo:
        """One workspace.

        Raises:
            NotFound: there is none of this name that `viewer` may see.
        """
        row = await self._store.read(lambda connection: _visible(connection, name, viewer))
        return self._info(row)

    async def stop(self, name: str, reason: StopReason, by: Identity) -> WorkspaceInfo:
        """Refuse new tunnels and end the sessions; returns when the agent has left, or soon after.

        Raises:
            NotFound: there is none of this name that `by` may see.
        """
        kind = IntentKind.EVICT if reason is StopReason.EVICTED else IntentKind.STOP
        cause = WORKSPACE_STOPS[reason]
        row = await self._find(name, by)
        asked_by = by.actor(row.owner)
        # nobody but an administrator speaks for the installation's schedule, or for its platform
        actor = _ON_BEHALF_OF.get(reason, asked_by) if by.is_admin else asked_by
        detail = "" if actor == asked_by else f"asked for by {asked_by}"
        async with self._change(row.workspace_id):
            await self._set(
                row, by, kind, {"state": WorkspaceState.STOPPED}, cause=cause, actor=actor
            )
            await self._hub.stop_workspace(row.workspace_id, cause, actor, detail)
        return await self.get(name, by)

    async def start(self, name: str, by: Identity) -> WorkspaceInfo:
        """Let the agent serve again.

        Raises:
            NotFound: there is none of this name that `by` may see.
        """
        row = await self._find(name, by)
        async with self._change(row.workspace_id):
            await self._set(row, by, IntentKind.START, {"state": WorkspaceState.RUNNING})
            await self._hub.start_workspace(row.workspace_id)
        return await self.get(name, by)

    async def delete(self, name: str, by: Identity) -> None:
        """End the sessions and forget the workspace; its agent's token is refused from now on.

        Raises:
            NotFound: there is none of this name that `by` may see.
        """
        row = await self._find(name, by)
        cause, actor = WORKSPACE_STOPS[StopReason.DELETED], by.actor(row.owner)
        async with self._change(row.workspace_id):
            gone = {"state": WorkspaceState.STOPPED, "deleted_at": self._clock.now().wall}
            await self._set(row, by, IntentKind.DELETE, gone, cause=cause, actor=actor)
            await self._hub.delete_workspace(row.workspace_id, cause, actor)

    async def rotate_token(self, name: str, by: Identity, *, at_once: bool = False) -> str:
        """A new token for the agent. The old one is good for `REPLACED_S` more, or refused at once;
        then the link that it opened ends, and the agent comes back with the new one.

        Raises:
            NotFound: there is none of this name that `by` may see.
        """

        async def rotate(connection: AsyncConnection) -> Rotated:
            row = await _visible(connection, name, by)
            await self._intend(
                connection, IntentKind.ROTATE_TOKEN, row.workspace_id, name, by, row.owner
            )
            actors.append(by.actor(row.owner))
            return await self._accounts.rotate_agent_token(
                connection, row.workspace_id, by, at_once=at_once
            )

        actors: list[str] = []
        rotated = await self._store.write(rotate)
        for token_id in rotated.replaced:
            if at_once:
                await self._hub.revoke_tokens([token_id], actors[-1])
            else:
                self._hub.replace_token(token_id, actors[-1], REPLACED_S)
        return rotated.issued.token

    def _change(self, workspace_id: str) -> asyncio.Lock:
        """The lock that keeps changes of a workspace and the orders to its agent in the same order."""
        return self._changing.setdefault(workspace_id, asyncio.Lock())

    async def _find(self, name: str, viewer: Identity) -> WorkspaceRow:
        return await self._store.read(lambda connection: _visible(connection, name, viewer))

    async def _set(
        self,
        row: WorkspaceRow,
        by: Identity,
        kind: IntentKind,
        values: dict[str, Any],
        *,
        cause: str = "",
        actor: str | None = None,
    ) -> None:
        """Change a workspace and write down who asked for it, in one transaction."""

        async def change(connection: AsyncConnection) -> None:
            done = await connection.execute(
                update(workspaces)
                .where(
                    workspaces.c.workspace_id == row.workspace_id,
                    workspaces.c.deleted_at.is_(None),
                )
                .values(values)
            )
            if done.rowcount == 0:
                raise _no_such(row.name)
            await self._intend(
                connection, kind, row.workspace_id, row.name, by, row.owner, cause, actor
            )

        await self._store.write(change)

    async def _intend(
        self,
        connection: AsyncConnection,
        kind: IntentKind,
        workspace_id: str,
        name: str,
        by: Identity,
        owner: str,
        cause: str = "",
        actor: str | None = None,
    ) -> None:
        asked_by = by.actor(owner)
        await connection.execute(
            insert(intents).values(
                kind=kind,
                workspace_id=workspace_id,
                subject=name,
                cause=cause,
                actor=asked_by if actor is None else actor,
                requested_by=asked_by,
                at=self._clock.now().wall,
            )
        )

    def _info(self, row: WorkspaceRow) -> WorkspaceInfo:
        heard_at = self._hub.agent_heard_at(row.workspace_id)
        if heard_at is not None:
            status = AgentStatus.CONNECTED
        elif row.agent_first_seen_at is None:
            status = AgentStatus.NEVER_CONNECTED
        else:
            status = AgentStatus.DISCONNECTED
        return WorkspaceInfo(
            workspace_id=row.workspace_id,
            name=row.name,
            owner=row.owner,
            state=row.state,
            created_at=row.created_at,
            host_key=row.host_key,
            agent_status=status,
            agent_version=row.agent_version,
            agent_hostname=row.agent_hostname,
            agent_last_seen_at=row.agent_last_seen_at if heard_at is None else heard_at,
            agent_state=row.agent_state,
            agent_state_at=row.agent_state_at,
            agent_latency=self._hub.agent_latency(row.workspace_id),
        )


_ON_BEHALF_OF = {StopReason.AUTOSTOP: "policy:autostop", StopReason.EVICTED: "platform"}
"""Stops that are not the own wish of the administrator who asks: whom the record names as the actor."""


def _live(name: str) -> Select[Any]:
    return select(workspaces).where(workspaces.c.name == name, workspaces.c.deleted_at.is_(None))


async def _owned(connection: AsyncConnection, owner: str) -> int:
    counted = (
        select(func.count())
        .select_from(workspaces)
        .where(workspaces.c.owner == owner, workspaces.c.deleted_at.is_(None))
    )
    return await connection.scalar(counted) or 0


async def _visible(connection: AsyncConnection, name: str, viewer: Identity) -> WorkspaceRow:
    wanted = _live(name)
    if not viewer.is_admin:
        wanted = wanted.where(workspaces.c.owner == viewer.user)
    row = await fetch_one(connection, wanted, WorkspaceRow)
    if row is None:
        raise _no_such(name)
    return row


def _no_such(name: str) -> NotFound:
    return NotFound("workspace_not_found", f"there is no workspace {name[:40]!r} of yours")
