"""The states that agents enter, as they report them: kept for each workspace, the newest one shown.

Law: inside one transaction. The order is the agent's: a state that goes back is refused, a new run
begins anew, and what an older run reports late is kept and changes nothing. Bounded.
"""

from __future__ import annotations

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.protocol.messages.reports import LifecycleRecord, LifecycleState, may_follow
from tether.server.connlog.activity import MAX_NAME, are_times
from tether.server.db.fetch import fetch_all
from tether.server.db.tables.agent_states import AgentStateRow, agent_states
from tether.server.db.tables.workspaces import workspaces

MAX_STATES = 200
"""States kept of one workspace: the newest ones."""


async def keep(tx: AsyncConnection, workspace_id: str, item: LifecycleRecord, now: float) -> bool:
    """Keep one state that an agent reports; False where it makes no sense."""
    if not are_times(item.at) or not 0 < len(item.instance_id) <= MAX_NAME:
        return False
    last_states = await _last_states(tx, workspace_id)
    before = _known(last_states.get(item.instance_id, ""))
    state = _known(item.state)
    if before is not None and state is not None and not may_follow(before, state):
        return False
    await tx.execute(
        insert(agent_states).values(
            workspace_id=workspace_id,
            instance_id=item.instance_id,
            state=item.state[:MAX_NAME],
            at=item.at,
            received_at=now,
        )
    )
    if item.instance_id not in last_states or item.instance_id == list(last_states)[-1]:
        await tx.execute(
            update(workspaces)
            .where(workspaces.c.workspace_id == workspace_id)
            .values(agent_state=item.state[:MAX_NAME], agent_state_at=item.at)
        )
    await _make_room(tx, workspace_id)
    return True


async def states_of_run(
    tx: AsyncConnection, workspace_id: str | None, instance_id: str | None
) -> list[AgentStateRow]:
    """The states of one run of a workspace's agent, in order."""
    if not workspace_id or not instance_id:
        return []
    query = (
        select(agent_states)
        .where(
            agent_states.c.workspace_id == workspace_id,
            agent_states.c.instance_id == instance_id,
        )
        .order_by(agent_states.c.id)
    )
    return await fetch_all(tx, query, AgentStateRow)


async def _last_states(tx: AsyncConnection, workspace_id: str) -> dict[str, str]:
    """The runs that have reported states, in the order of their beginnings -> the last state of each."""
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
