"""The table of the states that agents report of their own lives."""

from __future__ import annotations

from typing import Annotated

from sqlalchemy import Index

from tether.server.db.tables.base import Row, Sequence, column, table


class AgentStateRow(Row, frozen=True, kw_only=True):
    id: Sequence
    workspace_id: Annotated[str, column(refers_to="workspaces.workspace_id")]
    instance_id: str  # the run of the agent
    state: str  # a LifecycleState, or a state that only a newer agent knows
    at: float  # the agent's clock
    received_at: float


agent_states = table(
    "agent_states", AgentStateRow, Index(None, "workspace_id"), sqlite_autoincrement=True
)
