"""`/api/v1/workspaces`.

Law: translation only; `workspaces.py` decides who may do what.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from tether.server.api.models import (
    Agent,
    AgentToken,
    CreatedWorkspace,
    Deleted,
    NewWorkspace,
    StopRequest,
    Workspace,
)
from tether.server.api.parts import PartsOf, User, may_fail
from tether.server.times import iso, iso_or_none
from tether.server.workspaces import WorkspaceInfo

router = APIRouter(prefix="/workspaces", tags=["workspaces"])


@router.post(
    "",
    status_code=201,
    response_model=CreatedWorkspace,
    responses=may_fail(403, 409),
    summary="Create a workspace",
)
async def create(body: NewWorkspace, parts: PartsOf, user: User) -> CreatedWorkspace:
    """The workspace belongs to the caller. Its agent's token is shown only in this answer."""
    made = await parts.workspaces.create(body.name, user)
    return CreatedWorkspace.model_validate(made)


@router.get("", response_model=list[Workspace], summary="List workspaces")
async def list_(parts: PartsOf, user: User) -> list[Workspace]:
    """The caller's workspaces; administrators see everybody's."""
    return [_workspace(info) for info in await parts.workspaces.list(user)]


@router.get(
    "/{name}", response_model=Workspace, responses=may_fail(404), summary="Show a workspace"
)
async def show(name: str, parts: PartsOf, user: User) -> Workspace:
    """One workspace, and whether its agent is connected."""
    return _workspace(await parts.workspaces.get(name, user))


@router.delete(
    "/{name}", response_model=Deleted, responses=may_fail(404), summary="Delete a workspace"
)
async def delete(name: str, parts: PartsOf, user: User) -> Deleted:
    """Its sessions end and its agent's token is refused. The record of its connections stays."""
    await parts.workspaces.delete(name, user)
    return Deleted(name=name)


@router.post(
    "/{name}/stop", response_model=Workspace, responses=may_fail(404), summary="Stop a workspace"
)
async def stop(name: str, parts: PartsOf, user: User, body: StopRequest | None = None) -> Workspace:
    """Ends its sessions with the reason's cause; nobody can connect until it is started."""
    reason = (body or StopRequest()).reason
    return _workspace(await parts.workspaces.stop(name, reason, user))


@router.post(
    "/{name}/start", response_model=Workspace, responses=may_fail(404), summary="Start a workspace"
)
async def start(name: str, parts: PartsOf, user: User) -> Workspace:
    """Lets people connect again."""
    return _workspace(await parts.workspaces.start(name, user))


@router.post(
    "/{name}/agent-token",
    response_model=AgentToken,
    responses=may_fail(404),
    summary="Replace the agent's token",
)
async def rotate(
    name: str,
    parts: PartsOf,
    user: User,
    at_once: Annotated[
        bool, Query(description="Refuse the old token from now on, as after a leak.")
    ] = False,
) -> AgentToken:
    """The old token is good for ten minutes more, so that the new one can reach the agent; then the
    link that it opened ends. Sessions live on."""
    token = await parts.workspaces.rotate_token(name, user, at_once=at_once)
    return AgentToken(agent_token=token)


def _workspace(info: WorkspaceInfo) -> Workspace:
    return Workspace(
        workspace_id=info.workspace_id,
        name=info.name,
        owner=info.owner,
        state=info.state,
        agent=Agent(
            status=info.agent_status,
            version=info.agent_version,
            hostname=info.agent_hostname,
            last_seen_at=iso_or_none(info.agent_last_seen_at),
            lifecycle=info.agent_state,
            lifecycle_at=iso_or_none(info.agent_state_at),
            home_region=info.agent_latency.home,
            region_latency_ms={
                region: round(1000 * one, 2) for region, one in info.agent_latency.latency_s.items()
            },
        ),
        host_key=info.host_key,
        created_at=iso(info.created_at),
    )
