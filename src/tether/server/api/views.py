"""`/api/v1/views`: filters that people saved under a name.

Law: each user has their own, and sees no others. A view is the query of a page's address: nothing
reads it here.
"""

from __future__ import annotations

import secrets
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import Field
from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.server.api.models import ApiModel, Model, Time
from tether.server.api.parts import PartsOf, User, may_fail
from tether.server.db.tables.web import saved_views
from tether.server.errors import Conflict, NotFound
from tether.server.times import iso

router = APIRouter(prefix="/views", tags=["log"])

MAX_VIEWS = 100
"""Of one user."""


class NewView(Model):
    name: Annotated[str, Field(min_length=1, max_length=64, examples=["cut off by us"])]
    page: Annotated[Literal["connections"], Field(examples=["connections"])] = "connections"
    query: Annotated[str, Field(max_length=2000, examples=["side=us&expected=false&since=24h"])]


class SavedView(ApiModel):
    view_id: str
    name: str
    page: str
    query: str
    created_at: Time


class DeletedView(ApiModel):
    view_id: str
    deleted: Literal[True] = True


@router.get("", response_model=list[SavedView], summary="List one's saved views")
async def list_(parts: PartsOf, user: User) -> list[SavedView]:
    """By name."""
    c = saved_views.c
    wanted = select(saved_views).where(c.user == user.user).order_by(c.name)

    async def fetch(tx: AsyncConnection) -> list[SavedView]:
        return [
            SavedView(**{**row, "created_at": iso(row["created_at"])})
            for row in (await tx.execute(wanted)).mappings()
        ]

    return await parts.store.read(fetch)


@router.post(
    "",
    status_code=201,
    response_model=SavedView,
    responses=may_fail(409),
    summary="Save a view, in the place of one of the same name",
)
async def save(body: NewView, parts: PartsOf, user: User) -> SavedView:
    """A hundred at most."""
    c = saved_views.c
    now = parts.clock.now().wall
    view_id = secrets.token_hex(8)

    async def keep(tx: AsyncConnection) -> None:
        await tx.execute(delete(saved_views).where(c.user == user.user, c.name == body.name))
        many = await tx.scalar(select(func.count()).where(c.user == user.user))
        if (many or 0) >= MAX_VIEWS:
            raise Conflict("too_many_views", f"you have {many} saved views: delete one first")
        await tx.execute(
            insert(saved_views).values(
                view_id=view_id, user=user.user, created_at=now, **body.model_dump()
            )
        )

    await parts.store.write(keep)
    return SavedView(view_id=view_id, created_at=iso(now), **body.model_dump())


@router.delete(
    "/{view_id}", response_model=DeletedView, responses=may_fail(404), summary="Delete a view"
)
async def delete_(view_id: str, parts: PartsOf, user: User) -> DeletedView:
    """One's own."""
    c = saved_views.c

    async def drop(tx: AsyncConnection) -> None:
        mine = delete(saved_views).where(c.view_id == view_id, c.user == user.user)
        if (await tx.execute(mine)).rowcount == 0:
            raise NotFound("view_not_found", f"there is no view {view_id[:40]!r} of yours")

    await parts.store.write(drop)
    return DeletedView(view_id=view_id)
