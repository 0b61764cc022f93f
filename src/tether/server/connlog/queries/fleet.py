"""Relays and agents by what the log knows of them: carriers and how often they were lost, duplicates.

Law: reads only; for administrators, who see everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.attribution.causes.codes import AGENT_DUPLICATE, AGENT_SUPERSEDED
from tether.attribution.vocabulary import ConnectType, Party
from tether.protocol.messages.reports import PathWord
from tether.server.db.tables.connections import ConnectionStatus, connections, path_events

_C, _P = connections.c, path_events.c

_TUNNEL = func.coalesce(
    and_(_C.connect_type == str(ConnectType.AGENT_TO_CLIENT), _C.parent_id.is_(None)), False
)
"""Bare, SQLite would take the index of `parent_id`, in which nearly every row has none."""
LOST = (str(PathWord.LOST), str(PathWord.DETACHED))
"""Path events that tell of the end of a carrier."""

TOGETHER_S = 15.0
"""Carriers through one relay that end within so many seconds of each other ended with it."""

MOVED = (str(PathWord.RESUMED), str(PathWord.USED))

RESUMED_S = 300.0
"""A tunnel that goes on within so many seconds of that was moved."""

MAX_LOSSES = 50
"""So many losses are told at most."""

LEAST_TUNNELS = 2
"""Fewer carriers than these tell of their own network, and not of their relay."""

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
        .where(_C.disconnected_at >= since, _TUNNEL)
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
        .where(_P.event.in_(LOST), _P.received_at >= since)
        .group_by(_P.region)
    )
    for name, many in lost:
        if name in told:
            told[name]["lost"] = many
    return told


@dataclass(slots=True, kw_only=True)
class RelayLoss:
    """Carriers of several tunnels that ended at one relay together, as their agents tell."""

    region: str
    began_at: float
    """When the first of them was reported, unix seconds."""
    tunnels: int
    resumed: int
    """Tunnels that went on over another carrier."""
    longest_gap_s: float
    """The longest time that one of those was without any."""


async def relay_losses(tx: AsyncConnection, now: float, *, span_s: float) -> list[RelayLoss]:
    """When relays were lost under tunnels, newest first: no tunnel need have ended by that."""
    since = now - span_s
    ended = await tx.execute(
        select(_P.region, _P.received_at, _P.connection_id)
        .where(_P.event.in_(LOST), _P.peer == str(Party.RELAY), _P.received_at >= since)
        .order_by(_P.region, _P.received_at)
    )
    groups: list[tuple[str, float, float, set[str]]] = []  # region, first, last, tunnels
    for region, at, connection_id in ended:
        if groups and groups[-1][0] == region and at - groups[-1][2] <= TOGETHER_S:
            _, first, _, tunnels = groups.pop()
        else:
            first, tunnels = at, set()
        groups.append((region, first, at, tunnels | {connection_id}))
    large = [group for group in groups if len(group[3]) >= LEAST_TUNNELS]
    losses = [await _loss(tx, *group) for group in large[-MAX_LOSSES:]]
    return sorted(losses, key=lambda loss: -loss.began_at)


async def _loss(
    tx: AsyncConnection, region: str, first: float, last: float, tunnels: set[str]
) -> RelayLoss:
    resumed = await tx.execute(
        select(_P.connection_id, func.max(_P.gap_s))
        .where(
            _P.connection_id.in_(tunnels),
            _P.event.in_(MOVED),
            _P.received_at.between(first, last + RESUMED_S),
        )
        .group_by(_P.connection_id)
    )
    gaps = [gap_s for _, gap_s in resumed]
    return RelayLoss(
        region=region,
        began_at=first,
        tunnels=len(tunnels),
        resumed=len(gaps),
        longest_gap_s=max(gaps, default=0.0),
    )


async def duplicated(tx: AsyncConnection, since: float) -> dict[str, int]:
    """Workspace id -> how often a second agent took its place."""
    found = await tx.execute(
        select(_C.workspace_id, func.count())
        .where(_C.disconnected_at >= since, func.coalesce(_C.disconnect_cause, "").in_(DUPLICATES))
        .group_by(_C.workspace_id)
    )
    return {name: many for name, many in found if name}
