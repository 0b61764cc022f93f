"""`/api/v1/live`: what happens now, as server-sent events; and `/api/v1/status`.

Law: one stream shows what its viewer may see, for as long as they may: their identity is checked again
with each beat. A reader that falls behind gets no details, but has to read the log anew.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import asdict
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import StreamingResponse

from tether.server.api.connections import connection_view
from tether.server.api.models import ApiModel, Time
from tether.server.api.parts import Parts, PartsOf, User, credentials_of, may_fail
from tether.server.connlog.live import LiveChange, TooManyWatchers, Watcher
from tether.server.db.store import StoreUnavailable
from tether.server.errors import Conflict
from tether.server.identity import Identity
from tether.server.status import Status
from tether.server.times import iso

router = APIRouter(tags=["live"])

BEAT_S = 5.0
"""How often the strip's numbers come at least; a proxy that ends idle streams sees them, too."""

RETRY_MS = 2_000


class StatusView(ApiModel):
    """What is so at this moment; of a member, of what is theirs."""

    now: Time
    agents_connected: Annotated[int, Field(examples=[41])]
    agents_total: Annotated[int, Field(examples=[44])]
    relays_up: int
    relays_total: int
    sessions_open: int
    """Tunnels between clients and workspaces."""
    detached_now: int
    """Those of them that wait for a way between both ends."""


@router.get("/status", response_model=StatusView, summary="What is so at this moment")
async def status(parts: PartsOf, user: User) -> StatusView:
    """The numbers that the live stream repeats."""
    return _status(parts, await parts.status.now(user))


@router.get(
    "/live",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
        **may_fail(409),
    },
    summary="Watch what happens, as server-sent events",
)
async def live(parts: PartsOf, user: User, request: Request) -> StreamingResponse:
    """`connection`: `{"change": "opened" | "closed" | "revised" | "path", "row": …}`, a row as the
    list of connections has it. `status`: as `/status`. `resync`: too much happened, read anew."""
    async with AsyncExitStack() as opening:
        try:
            watcher = opening.enter_context(
                parts.connections.live.watch(user, await parts.status.owned(user))
            )
        except TooManyWatchers:
            raise Conflict(
                "too_many_watchers", "too many pages watch this server: close some, and try again"
            ) from None
        held = opening.pop_all()
    events = _events(parts, watcher, user, credentials_of(request), held)
    return StreamingResponse(
        events,
        media_type="text/event-stream",
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )


async def _events(
    parts: Parts, watcher: Watcher, user: Identity, token: str, held: AsyncExitStack
) -> AsyncIterator[bytes]:
    async with held:
        yield f"retry: {RETRY_MS}\n\n".encode()
        beat_at = parts.clock.now().mono
        while True:
            now = parts.clock.now()
            if now.mono >= beat_at:
                try:
                    if not isinstance(await parts.accounts.authenticate(token), Identity):
                        return
                    yield _event("status", _status(parts, await parts.status.now(user)))
                except StoreUnavailable as wrong:
                    yield _event("unavailable", {"message": str(wrong)})
                beat_at = now.mono + BEAT_S
            try:
                some = await watcher.some(max(0.05, beat_at - now.mono))
            except StopAsyncIteration:
                return
            if some is None:
                yield _event("resync", {})
                continue
            if some:
                yield b"".join(_event("connection", _told(parts, change)) for change in some)


def _told(parts: Parts, change: LiveChange) -> dict[str, Any]:
    return {
        "change": str(change.kind),
        "row": connection_view(change.row, parts.clock.now().wall).model_dump(mode="json"),
    }


def _status(parts: Parts, status: Status) -> StatusView:
    return StatusView(now=iso(parts.clock.now().wall), **asdict(status))


def _event(name: str, data: Any) -> bytes:
    plain = data.model_dump() if isinstance(data, ApiModel) else data
    return b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(plain))
