"""The states that agents enter, as they report them: kept for each workspace, the newest one shown.

Law: inside one transaction. Order is the agent's: one that goes back is refused, a new run begins anew,
and what an older run of an agent has still to tell is kept and changes nothing. Bounded.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.protocol.messages.reports import LifecycleRecord, LifecycleState, may_follow
from tether.server.connlog.activity import MAX_WORD, are_times
from tether.server.db.tables.agent_states import agent_states
from tether.server.db.tables.workspaces import workspaces
from tether.server.times import iso

MAX_STATES = 200
"""States kept of one workspace: the newest ones."""


async def keep(tx: AsyncConnection, workspace_id: str, item: LifecycleRecord, now: float) -> bool:
    """Keep one state that an agent tells of; False where it makes no sense."""
    if not are_times(item.at) or not 0 < len(item.instance_id) <= MAX_WORD:
        return False
    runs = await _runs(tx, workspace_id)
    if item.instance_id in runs:
        before, state = _known(runs[item.instance_id]), _known(item.state)
        if before is not None and state is not None and not may_follow(before, state):
            return False
    await tx.execute(
        insert(agent_states).values(
            workspace_id=workspace_id,
            instance_id=item.instance_id,
            state=item.state[:MAX_WORD],
            at=item.at,
            received_at=now,
        )
    )
    if item.instance_id not in runs or item.instance_id == list(runs)[-1]:
        await tx.execute(
            update(workspaces)
            .where(workspaces.c.workspace_id == workspace_id)
            .values(agent_state=item.state[:MAX_WORD], agent_state_at=item.at)
        )
    await _make_room(tx, workspace_id)
    return True


async def history(
    tx: AsyncConnection, workspace_id: str | None, instance_id: str | None
) -> list[dict[str, Any]]:
    """The states of one run of a workspace's agent, in order, as the API's plain data."""
    if not workspace_id or not instance_id:
        return []
    found = await tx.execute(
        select(agent_states.c.state, agent_states.c.at)
        .where(
            agent_states.c.workspace_id == workspace_id,
            agent_states.c.instance_id == instance_id,
        )
        .order_by(agent_states.c.id)
    )
    return [{"state": state, "at": iso(at)} for state, at in found]


async def _runs(tx: AsyncConnection, workspace_id: str) -> dict[str, str]:
    """The runs that have told of themselves, the one that began to last, and the last state of each."""
    found = await tx.execute(
        select(agent_states.c.instance_id, agent_states.c.state)
        .where(agent_states.c.workspace_id == workspace_id)
        .order_by(agent_states.c.id)
    )
    return dict(tuple(row) for row in found)


async def _make_room(tx: AsyncConnection, workspace_id: str) -> None:
    mine = agent_states.c.workspace_id == workspace_id
    newest = (
        select(agent_states.c.id).where(mine).order_by(agent_states.c.id.desc()).limit(MAX_STATES)
    )
    await tx.execute(delete(agent_states).where(mine, agent_states.c.id.not_in(newest)))


def _known(state: str) -> LifecycleState | None:
    return LifecycleState(state) if state in LifecycleState._value2member_map_ else None
