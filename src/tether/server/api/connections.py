"""`/api/v1/connections`: the record of every disconnect.

Law: translation only: words of the query become a `ConnectionFilter`; the connection log answers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query

from tether.attribution.causes.catalogue import CATALOGUE
from tether.attribution.causes.codes import AGENT_CRASHED
from tether.attribution.vocabulary import ConnectionType, Initiator, Reason
from tether.server.api.models import ConnectionView, Explained, FileAudit, ForwardView
from tether.server.api.parts import PartsOf, User, may_fail
from tether.server.api.ports import DEFAULT_LIMIT, MAX_FILES, MAX_LIMIT, ConnectionFilter
from tether.server.db.tables.connections import ConnectionStatus
from tether.server.errors import Invalid
from tether.server.times import parse_when

router = APIRouter(prefix="/connections", tags=["connections"])

_Id = Annotated[str, Path(description="Its id, or as much of it as is unique.")]
_WHEN = "RFC 3339, or a span back from now: `15m`, `2h`, `3d`."


def _filters(
    parts: PartsOf,
    workspace: Annotated[str | None, Query(description="Its name.", max_length=64)] = None,
    user_name: Annotated[
        str | None, Query(alias="user", description="Who connected.", max_length=64)
    ] = None,
    type_: Annotated[ConnectionType | None, Query(alias="type")] = None,
    reason: Annotated[Reason | None, Query(description="What happened.")] = None,
    cause: Annotated[
        str | None, Query(description="A code of the cause catalogue.", examples=[AGENT_CRASHED])
    ] = None,
    initiator: Annotated[
        Initiator | None, Query(description="Who began it; empty: it could not be told.")
    ] = None,
    expected: Annotated[
        Literal["true", "false"] | None, Query(description="`false`: those to investigate.")
    ] = None,
    status: Annotated[ConnectionStatus | None, Query()] = None,
    since: Annotated[
        str | None, Query(description=f"Open at this time or later. {_WHEN}", examples=["2h"])
    ] = None,
    until: Annotated[
        str | None, Query(description=f"Begun before this time. {_WHEN}", examples=["15m"])
    ] = None,
    incident: Annotated[
        str | None, Query(description="Ends of this incident.", max_length=64)
    ] = None,
) -> ConnectionFilter:
    if cause is not None and cause not in CATALOGUE:
        raise Invalid("invalid_request", f"query parameter cause: there is no cause {cause[:64]!r}")
    now = parts.clock.now().wall
    return ConnectionFilter(
        workspace=workspace,
        user=user_name,
        type=type_,
        reason=reason,
        cause=cause,
        initiator=initiator,
        expected=None if expected is None else expected == "true",
        status=status,
        since=_moment("since", since, now),
        until=_moment("until", until, now),
        incident=incident,
    )


Filters = Annotated[ConnectionFilter, Depends(_filters)]


@router.get("", response_model=list[ConnectionView], summary="List connections, newest first")
async def list_(
    parts: PartsOf,
    user: User,
    filters: Filters,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
) -> list[ConnectionView]:
    """Those of the caller and of the caller's workspaces; an administrator sees all."""
    rows = await parts.connlog.list(replace(filters, limit=limit), user)
    return [ConnectionView.model_validate(row) for row in rows]


@router.get(
    "/{connection_id}",
    response_model=Explained,
    responses=may_fail(404, 409),
    summary="Explain one connection",
)
async def explain(
    connection_id: _Id,
    parts: PartsOf,
    user: User,
) -> Explained:
    """Why it ended, in words, with the rule that decided and the evidence it decided from."""
    return Explained.model_validate(await parts.connlog.explain(connection_id, user))


@router.get(
    "/{connection_id}/forwards",
    response_model=list[ForwardView],
    responses=may_fail(404, 409),
    summary="List the forwarded connections of one connection",
)
async def forwards(
    connection_id: _Id,
    parts: PartsOf,
    user: User,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
) -> list[ForwardView]:
    """The first ones one by one, oldest first; then the others, counted per kind and destination."""
    found = await parts.connlog.forwards(connection_id, user, limit)
    return [ForwardView.model_validate(one) for one in found]


@router.get(
    "/{connection_id}/files",
    response_model=list[FileAudit],
    responses=may_fail(404, 409),
    summary="List the file operations of one connection",
)
async def files(
    connection_id: _Id,
    parts: PartsOf,
    user: User,
    limit: Annotated[int, Query(ge=1, le=MAX_FILES)] = MAX_LIMIT,
) -> list[FileAudit]:
    """What its sessions were asked to do to files, oldest session first; `limit` operations in all."""
    found = await parts.connlog.files(connection_id, user, limit)
    return [FileAudit.model_validate(one) for one in found]


def _moment(name: str, text: str | None, now: float) -> float | None:
    if text is None:
        return None
    try:
        return parse_when(text, now)
    except ValueError as wrong:
        raise Invalid("invalid_request", f"query parameter {name}: {wrong}") from wrong
