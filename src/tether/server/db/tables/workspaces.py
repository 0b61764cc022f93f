"""The tables of workspaces, and of what people asked for."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from sqlalchemy import Index, text

from tether.server.db.tables.base import Key, Row, Sequence, column, table


class WorkspaceState(StrEnum):
    """What was last asked of a workspace."""

    RUNNING = "running"
    STOPPED = "stopped"


class IntentKind(StrEnum):
    """What somebody asked for."""

    CREATE = "create"
    START = "start"
    STOP = "stop"
    EVICT = "evict"
    DELETE = "delete"
    ROTATE_TOKEN = "rotate_token"
    CREATE_USER = "create_user"
    REVOKE_USER = "revoke_user"


class WorkspaceRow(Row, frozen=True, kw_only=True):
    workspace_id: Key
    name: str  # unique among those that are not deleted
    owner: Annotated[str, column(refers_to="users.name")]
    state: WorkspaceState
    created_at: float
    deleted_at: float | None
    host_key: str | None  # public SSH host key that its agent announced
    agent_version: str | None
    agent_hostname: str | None
    agent_first_seen_at: float | None  # NULL: no agent has ever connected
    agent_last_seen_at: float | None
    agent_state: str | None  # the newest one that it reported, and when, by its own clock
    agent_state_at: float | None


workspaces = table(
    "workspaces",
    WorkspaceRow,
    Index(
        "uq_workspaces_live_name",
        "name",
        unique=True,
        sqlite_where=text("deleted_at IS NULL"),
        postgresql_where=text("deleted_at IS NULL"),
    ),
    Index(None, "owner"),
)


class IntentRow(Row, frozen=True, kw_only=True):
    id: Sequence
    kind: IntentKind
    workspace_id: Annotated[str | None, column(refers_to="workspaces.workspace_id")]
    subject: str  # name of the workspace or user at that time
    cause: str  # catalogue code, or '' where nothing ends
    actor: str  # on whose behalf: what the record will show
    requested_by: str  # who really asked: user:, admin:
    at: float


intents = table("intents", IntentRow, Index(None, "workspace_id", "at"), sqlite_autoincrement=True)
"""Append-only audit of who asked for what."""
