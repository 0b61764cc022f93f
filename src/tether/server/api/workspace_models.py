"""The JSON of `/api/v1/workspaces`. Law: as `api_models`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tether.server.api.models import ApiModel, Model, Time
from tether.server.db.tables.workspaces import WorkspaceState
from tether.server.workspaces import AgentStatus, StopReason


class NewWorkspace(Model):
    name: Annotated[str, Field(examples=["dev"])]
    """1 to 32 of a-z, 0-9 and '-'; a letter or a digit at both ends."""


class CreatedWorkspace(ApiModel):
    workspace_id: str
    name: Annotated[str, Field(examples=["dev"])]
    agent_token: Annotated[str, Field(examples=["tether_agent_…"])]
    """Shown once: give it to the workspace's agent."""


class Agent(ApiModel):
    status: AgentStatus
    version: str | None
    hostname: str | None
    last_seen_at: Time | None
    lifecycle: Annotated[str | None, Field(examples=["ready"])] = None
    """The newest state of its life that it has told of: `created`, `starting`, `ready`,
    `shutting_down`, `shutdown_timeout`, `shutdown_error` or `off`."""
    lifecycle_at: Time | None = None
    """Since when, by the agent's clock."""
    home_region: Annotated[str, Field(examples=["fra"])] = ""
    """The DERP region that it would like to be met in; empty while it is not known."""
    region_latency_ms: Annotated[
        dict[str, float], Field(default_factory=dict, examples=[{"fra": 12.4}])
    ]
    """Each region's round trip from the agent, as it has measured it."""


class Workspace(ApiModel):
    workspace_id: str
    name: Annotated[str, Field(examples=["dev"])]
    owner: Annotated[str, Field(examples=["alice"])]
    state: WorkspaceState
    agent: Agent
    host_key: str | None
    """The agent's public SSH host key, one OpenSSH line; null until it has connected."""
    created_at: Time


class StopRequest(Model):
    reason: StopReason = StopReason.USER
    """Becomes the cause that everybody cut off by the stop will see."""


class AgentToken(ApiModel):
    agent_token: Annotated[str, Field(examples=["tether_agent_…"])]
    """Shown once; the tokens before it are dead."""
