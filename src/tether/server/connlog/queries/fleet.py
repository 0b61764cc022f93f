"""Relays and agents by what the log knows of them: carriers and how often they were lost, duplicates.

Law: reads only; for administrators, who see everything.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import and_, case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.attribution.causes.codes import AGENT_DUPLICATE, AGENT_SUPERSEDED
from tether.attribution.vocabulary import ConnectType
from tether.server.db.tables.connections import ConnectionStatus, connections, path_events

_C, _P = connections.c, path_events.c

_TUNNEL = and_(_C.connect_type == str(ConnectType.AGENT_TO_CLIENT), _C.parent_id.is_(None))
DUPLICATES = (AGENT_SUPERSEDED, AGENT_DUPLICATE)


async def relays(tx: AsyncConnection, now: float, *, span_s: float) -> dict[str, dict[str, Any]]:
    """Region ("" for none) -> tunnels that it carries, its hours, and the carriers that it lost."""
    since = now - span_s
    region = func.coalesce(_C.relay_region, "")
    begun = func.max(func.coalesce(_C.connected_at, since), since)
    hours = func.sum(func.coalesce(_C.disconnected_at, now) - begun) / 3600
    told: dict[str, dict[str, Any]] = {}
    ended = await tx.execute(
        select(
            region,
            func.count(),
            func.sum(case((_C.disconnect_expected.is_(False), 1), else_=0)),
            func.sum(
                case((func.coalesce(_C.disconnect_cause, "").startswith("relay."), 1), else_=0)
            ),
            hours,
        )
        .where(_C.disconnected_at >= since, func.coalesce(_TUNNEL, False))
        .group_by(region)
    )
    for name, many, cut, by_relay, lived in ended:
        told[name] = {
            "ended": many,
            "cut": cut or 0,
            "cut_by_relay": by_relay or 0,
            "hours": lived or 0.0,
        }
    opened = await tx.execute(
        select(region, func.count(), hours)
        .where(_C.status == str(ConnectionStatus.ONGOING), _C.status != "closed", _TUNNEL)
        .group_by(region)
    )
    for name, many, lived in opened:
        its = told.setdefault(name, {"ended": 0, "cut": 0, "cut_by_relay": 0, "hours": 0.0})
        its["open"] = many
        its["hours"] += lived or 0.0
    lost = await tx.execute(
        select(_P.region, func.count())
        .where(_P.event.in_(("lost", "detached")), _P.received_at >= since)
        .group_by(_P.region)
    )
    for name, many in lost:
        if name in told:
            told[name]["lost"] = many
    return told


async def duplicated(tx: AsyncConnection, since: float) -> dict[str, int]:
    """Workspace id -> how often a second agent took its place."""
    found = await tx.execute(
        select(_C.workspace_id, func.count())
        .where(_C.disconnected_at >= since, func.coalesce(_C.disconnect_cause, "").in_(DUPLICATES))
        .group_by(_C.workspace_id)
    )
    return {name: many for name, many in found if name}
