"""`/api/v1/log`: the connection log by every filter there is, its counts, and its export.

Law: translation only; `connlog/pages.py` answers. A page, its counts and its download are asked with
the same words (`api.query`), so that they agree.
"""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Query, Request, Response
from pydantic import Field
from starlette.responses import StreamingResponse

from tether.attribution.causes.catalogue import CATALOGUE
from tether.attribution.causes.codes import CLIENT_CLOSED
from tether.attribution.sides import Side, side_of
from tether.attribution.vocabulary import (
    Initiator,
    Reason,
)
from tether.server.api.connections import connection_view
from tether.server.api.models import ApiModel, ConnectionView, Time
from tether.server.api.parts import PartsOf, User
from tether.server.api.query import LogQuery, search_of
from tether.server.db.tables.connections import ConnectionRow
from tether.server.times import iso, iso_or_none

router = APIRouter(prefix="/log", tags=["log"])

MAX_LIMIT = 500


class PageQuery(LogQuery):
    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT)] = 100
    cursor: Annotated[str, Field(max_length=64)] = ""
    """`next` of the page before."""


class ExportQuery(LogQuery):
    format: Literal["csv", "ndjson", "json"] = "csv"
    limit: Annotated[int | None, Field(ge=1)] = None
    """At most so many rows; without it, all."""
    cursor: Annotated[str, Field(max_length=64)] = ""
    """Go on behind the page that this is `next` of."""


class LogPage(ApiModel):
    """A page, newest first."""

    rows: list[ConnectionView]
    next: str
    """The cursor of the next page; empty: this is the last one."""
    searched_to: Time | None = None
    """Where a page is not full because so much had to be searched: as far back as this. Go on by
    `next`."""


class ValueCount(ApiModel):
    value: str
    count: int


class Histogram(ApiModel):
    """Ends over time, and beginnings."""

    since: Time
    until: Time
    step_s: float
    unexpected: dict[str, list[int]]
    """Side -> unexpected ends of each step."""
    expected: list[int]
    began: list[int]


class LogSummary(ApiModel):
    """What a filter leaves, counted."""

    total: int
    exact: bool
    """false: only the newest 100,000 were counted, those since `counted_since`."""
    counted_since: Time | None
    facets: dict[str, list[ValueCount]]
    """Field -> its values, the most frequent first, whatever its own filter."""
    histogram: Histogram


class CauseView(ApiModel):
    """A row of the cause catalogue."""

    code: Annotated[str, Field(examples=[CLIENT_CLOSED])]
    title: str
    sentence: str
    """May hold `{exit_code}`, `{exit_signal}`, `{actor}` and `{workspace}`."""
    advice: str
    reason: Reason
    initiator: Initiator
    expected: bool
    side: Side


@router.get("", response_model=LogPage, summary="Search the connection log, newest first")
async def page(query: Annotated[PageQuery, Query()], parts: PartsOf, user: User) -> LogPage:
    """Those of the caller and of the caller's workspaces; an administrator sees all."""
    search = await search_of(query, parts, user)
    found = await parts.pages.search(search, user, limit=query.limit, cursor=query.cursor)
    now = parts.clock.now().wall
    return LogPage(
        rows=[connection_view(row, now) for row in found.rows],
        next=found.next,
        searched_to=iso_or_none(found.searched_to),
    )


@router.get("/summary", response_model=LogSummary, summary="Count what a filter leaves")
async def summary(query: Annotated[LogQuery, Query()], parts: PartsOf, user: User) -> LogSummary:
    """By every field, and over time, in one answer."""
    found = await parts.pages.summary(await search_of(query, parts, user), user)
    histogram = found.histogram
    return LogSummary(
        total=found.total,
        exact=found.exact,
        counted_since=iso_or_none(found.counted_since),
        facets={
            name: [ValueCount(**one) for one in values] for name, values in found.facets.items()
        },
        histogram=Histogram(
            **{
                **histogram,
                "since": iso(histogram["since"]),
                "until": iso(histogram["until"]),
            }
        ),
    )


@router.get(
    "/export",
    response_class=StreamingResponse,
    responses={
        200: {
            "content": {
                "text/csv": {"schema": {"type": "string"}},
                "application/x-ndjson": {"schema": {"type": "string"}},
                "application/json": {"schema": {"type": "array", "items": {}}},
            }
        }
    },
    summary="Download what a filter leaves",
)
async def export(
    query: Annotated[ExportQuery, Query()], parts: PartsOf, user: User
) -> StreamingResponse:
    """All of it, or the first `limit` of it, newest first, in the order of the pages."""
    now = parts.clock.now().wall
    search = await search_of(query, parts, user)
    rows = parts.pages.all(search, user, limit=query.limit, cursor=query.cursor)
    kind, write = _FORMATS[query.format]
    name = f"connections-{iso(now)[:10]}.{query.format}"
    return StreamingResponse(
        write(_views(rows, now)),
        media_type=kind,
        headers={"content-disposition": f'attachment; filename="{name}"'},
    )


@router.get("/causes", response_model=list[CauseView], summary="List the cause catalogue")
async def causes(request: Request, parts: PartsOf, user: User) -> Response:
    """It changes only with the server's version."""
    tag = f'"causes-{parts.version}"'
    headers = {"etag": tag, "cache-control": "private, no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(_CAUSES, media_type="application/json", headers=headers)


_CAUSES = msgspec.json.encode(
    [{**asdict(cause), "side": str(side_of(cause.code))} for cause in CATALOGUE.values()]
)

# -- downloads ------------------------------------------------------------------------------------

Rows = AsyncIterator[list[ConnectionView]]

_COLUMNS = tuple(ConnectionView.model_fields)


async def _views(rows: AsyncIterator[list[ConnectionRow]], now: float) -> Rows:
    async for some in rows:
        yield [connection_view(row, now) for row in some]


async def _csv(rows: Rows) -> AsyncIterator[bytes]:
    yield (",".join(_COLUMNS) + "\r\n").encode()
    async for some in rows:
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerows([_cell(getattr(row, name)) for name in _COLUMNS] for row in some)
        yield text.getvalue().encode()


def _cell(value: Any) -> Any:
    """A value for a table of calculations, which must take none for a formula of its own."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") else value


async def _ndjson(rows: Rows) -> AsyncIterator[bytes]:
    async for some in rows:
        yield b"".join(row.model_dump_json().encode() + b"\n" for row in some)


async def _json(rows: Rows) -> AsyncIterator[bytes]:
    before = b"["
    async for some in rows:
        yield before + b",\n".join(row.model_dump_json().encode() for row in some)
        before = b",\n"
    yield b"]\n" if before != b"[" else b"[]\n"


_FORMATS: dict[str, tuple[str, Callable[[Rows], AsyncIterator[bytes]]]] = {
    "csv": ("text/csv", _csv),
    "ndjson": ("application/x-ndjson", _ndjson),
    "json": ("application/json", _json),
}
