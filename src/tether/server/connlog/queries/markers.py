"""What happened to the programs: starts of the server, deploys, agents and relays that ended.

Law: reads only. An administrator sees all, others the agents of their own workspaces and the server.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.attribution.causes.catalogue import cause_of
from tether.attribution.vocabulary import ConnectType
from tether.server.connlog.queries.listing import visible_to
from tether.server.db.tables.connections import connections
from tether.server.db.tables.server_runs import runs
from tether.server.identity import Identity
from tether.server.times import iso

_C = connections.c

MOST = 200


async def markers(
    tx: AsyncConnection, viewer: Identity, since: float, until: float
) -> list[dict[str, Any]]:
    """In order: starts and ends of the server's runs, and ends of agents and relays."""
    found = [
        *await _server(tx, since, until),
        *await _agents(tx, viewer, since, until),
        *await _relays(tx, viewer, since, until),
    ]
    return sorted(found, key=lambda one: str(one["at"]))


async def _server(tx: AsyncConnection, since: float, until: float) -> list[dict[str, Any]]:
    r = runs.c
    ended = func.coalesce(r.stopped_cleanly_at, r.last_alive_at)
    wanted = (
        select(r.run_id, r.started_at, r.last_alive_at, r.stopped_cleanly_at)
        .where(or_(r.started_at >= since, ended >= since), r.started_at < until)
        .order_by(r.started_at)
        .limit(MOST)
    )
    rows = (await tx.execute(wanted)).all()
    told = []
    for at, row in enumerate(rows):
        if row.started_at >= since:
            told.append(_mark(row.started_at, "server", "The server started", row.run_id))
        if row.stopped_cleanly_at is not None:
            told.append(_mark(row.stopped_cleanly_at, "server", "The server stopped", row.run_id))
        elif at < len(rows) - 1:  # the last one runs
            told.append(_mark(row.last_alive_at, "server", "The server died", row.run_id))
    return [mark for mark in told if mark["at"] >= iso(since)]


async def _agents(
    tx: AsyncConnection, viewer: Identity, since: float, until: float
) -> list[dict[str, Any]]:
    """Ends of agents' control links that an agent's own end explains."""
    found = await tx.execute(
        select(_C.disconnected_at, _C.workspace, _C.disconnect_cause, _C.connection_id)
        .where(
            _C.disconnected_at >= since,
            _C.disconnected_at < until,
            _C.connect_type == str(ConnectType.SERVER_TO_AGENT),
            func.coalesce(_C.disconnect_cause, "").startswith("agent."),
            visible_to(viewer),
        )
        .order_by(_C.disconnected_at.desc())
        .limit(MOST)
    )
    return [
        _mark(at, "agent", f"{workspace or '?'}: {cause_of(code).title}", connection_id)
        for at, workspace, code, connection_id in found
    ]


async def _relays(
    tx: AsyncConnection, viewer: Identity, since: float, until: float
) -> list[dict[str, Any]]:
    """The first end of each minute that a relay's own end explains."""
    minute = func.round(_C.disconnected_at / 60)
    found = await tx.execute(
        select(func.min(_C.disconnected_at), _C.relay_region, _C.disconnect_cause, _C.connection_id)
        .where(
            _C.disconnected_at >= since,
            _C.disconnected_at < until,
            func.coalesce(_C.disconnect_cause, "").startswith("relay."),
            visible_to(viewer),
        )
        .group_by(minute, _C.relay_region, _C.disconnect_cause)
        .limit(MOST)
    )
    return [
        _mark(at, "relay", f"{region or 'embedded'}: {cause_of(code).title}", connection_id)
        for at, region, code, connection_id in found
    ]


def _mark(at: float, kind: str, title: str, subject: str) -> dict[str, Any]:
    return {"at": iso(at), "kind": kind, "title": title, "subject": subject}
