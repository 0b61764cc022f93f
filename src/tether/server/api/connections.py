"""`/api/v1/connections`: the record of every disconnect.

Law: translation only: the words of a query become a `RowSearch` (`api.query`), and rows become the
API's models.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from msgspec import structs
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.server.api.models import (
    ConnectionView,
    EndRequest,
    Explained,
    FileAuditView,
    ForwardView,
)
from tether.server.api.parts import PartsOf, User, may_fail
from tether.server.api.query import LogQuery, search_of
from tether.server.connlog.filter import DEFAULT_LIMIT, MAX_FILES, MAX_LIMIT
from tether.server.connlog.queries import activity
from tether.server.connlog.queries.explain import ExplainedConnection, explain_connection
from tether.server.connlog.queries.listing import find_visible
from tether.server.db.tables.activity import ForwardRow
from tether.server.db.tables.connections import ConnectionRow
from tether.server.errors import Conflict

router = APIRouter(prefix="/connections", tags=["connections"])

_Id = Annotated[str, Path(description="Its id, or as much of it as is unique.")]
MAIN_AGENT = "main"
"""A workspace has one agent; the name leaves room for more."""


class ListQuery(LogQuery):
    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT
    cursor: Annotated[str, Field(max_length=64)] = ""
    """Go on behind what was listed before: the one of the answer's `Link` header."""


@router.get("", response_model=list[ConnectionView], summary="List connections, newest first")
async def list_(
    query: Annotated[ListQuery, Query()],
    parts: PartsOf,
    user: User,
    request: Request,
    response: Response,
) -> list[ConnectionView]:
    """The caller's connections and those of the caller's workspaces; administrators see all. Where
    there are more, the header `Link` (RFC 8288) leads to the `next` of them."""
    search = await search_of(query, parts, user)
    found = await parts.pages.first(search, user, limit=query.limit, cursor=query.cursor)
    if found.next:
        more = request.url.include_query_params(cursor=found.next)
        response.headers["link"] = f'<{more.path}?{more.query}>; rel="next"'
    now = parts.clock.now().wall
    return [connection_view(row, now) for row in found.rows]


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

    async def look(tx: AsyncConnection) -> ExplainedConnection:
        return await explain_connection(tx, await find_visible(tx, connection_id, user))

    return explained_view(await parts.store.read(look), parts.clock.now().wall)


@router.post(
    "/{connection_id}/end",
    response_model=ConnectionView,
    responses=may_fail(404, 409),
    summary="End a connection",
)
async def end(
    connection_id: _Id, parts: PartsOf, user: User, body: EndRequest | None = None
) -> ConnectionView:
    """Ends one tunnel or control link that the caller may see; the record names the caller. An agent
    or a client whose control link is ended dials again."""
    row = await parts.store.read(lambda tx: find_visible(tx, connection_id, user))
    if row.is_closed:
        raise Conflict("connection_over", f"connection {row.connection_id[:8]} is over already")
    if row.parent_id is not None:
        raise Conflict(
            "not_a_stream",
            f"this IDE session has no stream of its own: end connection {row.parent_id[:8]}, which"
            " it runs on",
        )
    detail = (body or EndRequest()).reason
    await parts.hub.end_connection(row, user.actor(row.user), detail)
    return connection_view(
        await parts.store.read(lambda tx: find_visible(tx, row.connection_id, user)),
        parts.clock.now().wall,
    )


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
    """The first ones one by one, oldest first; the others are counted, by kind and destination."""

    async def look(tx: AsyncConnection) -> list[ForwardRow]:
        row = await find_visible(tx, connection_id, user)
        return await activity.forwards_of(tx, row.connection_id, limit)

    return [forward_view(one) for one in await parts.store.read(look)]


@router.get(
    "/{connection_id}/files",
    response_model=list[FileAuditView],
    responses=may_fail(404, 409),
    summary="List the file operations of one connection",
)
async def files(
    connection_id: _Id,
    parts: PartsOf,
    user: User,
    limit: Annotated[int, Query(ge=1, le=MAX_FILES)] = MAX_LIMIT,
) -> list[FileAuditView]:
    """What each session was asked to do to files, oldest session first; `limit` operations in all."""

    async def look(tx: AsyncConnection) -> list[activity.FileAudit]:
        row = await find_visible(tx, connection_id, user)
        return await activity.files_of(tx, row.connection_id, limit)

    return [FileAuditView.model_validate(one) for one in await parts.store.read(look)]


# -- rows as the API shows them -----------------------------------------------------------------


def connection_view(row: ConnectionRow, now: float) -> ConnectionView:
    """A connection as the API shows it at `now`."""
    return ConnectionView.model_validate(_fields_of(row, now))


def explained_view(found: ExplainedConnection, now: float) -> Explained:
    """Everything on file about a connection, as the API shows it at `now`."""
    return Explained.model_validate(
        {
            **_fields_of(found.row, now),
            "title": found.explanation.title,
            "sentence": found.explanation.sentence,
            "advice": found.explanation.advice,
            "because": found.revisions[-1].because if found.revisions else "",
            "evidence": found.evidence,
            "symptoms": found.symptoms,
            "explains": found.explains,
            "alone": found.alone,
            "agent_states": found.agent_states,
            "sessions": found.sessions,
            "revisions": [
                {**one.fields, **structs.asdict(one), "at": one.as_of} for one in found.revisions
            ],
            "children": found.children,
            "ide": found.ide,
            "forwards": [forward_view(one) for one in found.forwards],
            "forwards_total": found.forwards_total,
            "file_operations": found.file_operations,
            "path_events": [
                {**structs.asdict(one), "where": one.region, "gap_s": round(one.gap_s, 3)}
                for one in found.path_events
            ],
        }
    )


def _fields_of(row: ConnectionRow, now: float) -> dict[str, Any]:
    """The fields of a `ConnectionView`; an open connection has lasted until `now`."""
    duration_s = None
    if row.connected_at is not None:
        until = now if row.disconnected_at is None else row.disconnected_at
        duration_s = round(max(0.0, until - row.connected_at), 3)
    agent = None if row.workspace_id is None else MAIN_AGENT
    return {**structs.asdict(row), "agent": agent, "duration_s": duration_s}


def forward_view(row: ForwardRow) -> ForwardView:
    """A forwarded connection, or a roll-up of several, as the API shows it."""
    is_one = row.forward_id is not None
    return ForwardView.model_validate(
        {
            **structs.asdict(row),
            "count": row.started,
            "end": next(iter(row.ends), "") if is_one else "",
            "duration_s": round(row.duration_s, 3),
        }
    )
