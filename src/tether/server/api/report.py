"""`/api/v1/report`: how connections ended, counted, and old ends judged by today's rules.

Law: translation only, with the filters of `api.query`.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from fastapi import APIRouter, Query
from pydantic import Field

from tether.server.api.models import ApiModel
from tether.server.api.parts import PartsOf, User, may_fail
from tether.server.api.query import LogQuery, search_of
from tether.server.connlog.queries.report import count_ends
from tether.server.errors import Forbidden

Breakdown = Literal["cause", "reason", "initiator", "workspace", "user", "relay", "day"]

router = APIRouter(prefix="/report", tags=["connections"])


class ReportQuery(LogQuery):
    by: Annotated[list[Breakdown], Field(default_factory=list)]
    """Only these breakdowns; else all."""


class RejudgeQuery(LogQuery):
    write: bool = False
    """Append what changes as revisions."""


class GroupView(ApiModel):
    """Ends that have one value in common."""

    value: str
    title: str = ""
    """Of a cause: its title."""
    ends: int
    expected: int
    unexpected: int
    unknown: int


class ReportView(ApiModel):
    """How connections ended, counted."""

    ends: int
    expected: int
    unexpected: int
    unknown: int
    """Ends that nobody could explain: each counts as a bug."""
    unknown_rate: float
    incidents: int
    mean_duration_s: float
    by: dict[str, list[GroupView]]
    """By cause, reason, initiator, workspace, user, relay and day."""


class ChangedVerdictView(ApiModel):
    """An old end that today's rules judge differently."""

    connection_id: str
    was: str
    was_rule: str | None
    now: str
    now_rule: str
    was_expected: bool
    now_expected: bool


class RejudgedView(ApiModel):
    judged: int
    changed: int
    written: bool
    """Whether the changes were appended as revisions."""
    changes: list[ChangedVerdictView]
    """The first of them."""


@router.get("", response_model=ReportView, summary="Count ends by cause, workspace, relay and day")
async def report(query: Annotated[ReportQuery, Query()], parts: PartsOf, user: User) -> ReportView:
    """The ends that match: expected, unexpected, unexplained, and each breakdown. `since` and `until`
    frame when they ended."""
    wanted, search = query.by or get_args(Breakdown), await search_of(query, parts, user)
    counted = await parts.store.read(lambda tx: count_ends(tx, search, user, wanted))
    return ReportView.model_validate(counted)


@router.post(
    "/rejudge",
    response_model=RejudgedView,
    responses=may_fail(403),
    summary="Judge old ends by today's rules",
)
async def rejudge(
    query: Annotated[RejudgeQuery, Query()], parts: PartsOf, user: User
) -> RejudgedView:
    """How today's rules judge old ends. Only administrators may have the changes written."""
    if query.write and not user.is_admin:
        raise Forbidden("admin_only", "only an administrator may write judgements")
    search = await search_of(query, parts, user)
    found = await parts.connections.rejudge(search, user, write=query.write)
    return RejudgedView(
        judged=found.judged,
        changed=found.changed,
        written=query.write,
        changes=[ChangedVerdictView.model_validate(one) for one in found.changes],
    )
