"""One incident, not fifty rows: ends that share an element within one window share an `incident_id`.

Law: grouping never changes a row's own cause, and never joins a planned end to one that was not. Which
element an end is about follows from its cause (the relay of a relay's crash, the agent of an agent's);
rows of one element that ended within `WINDOW_S` of each other are one incident where there are three of
them, or where they are at least half of all that stood on it. A control link is the root where there is
one: it is the nearest to what happened.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import RowMapping, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.attribution.causes.catalogue import cause_of
from tether.attribution.disconnect import Disconnect
from tether.attribution.vocabulary import ConnectType, Element
from tether.server.connlog.correlate import WINDOW_S
from tether.server.db.tables.connections import ConnectionStatus, connections, incidents

ENOUGH = 3
AT_LEAST = 2
SHARE = 0.5


def key_of(row: RowMapping | Mapping[str, Any], cause: str) -> str | None:
    """The element's kind and name, for rows that can be part of an incident."""
    element = cause_of(cause).element
    if element is Element.CLIENT and row["connect_type"] == ConnectType.SERVER_TO_AGENT:
        element = Element.AGENT
    name = element and _named(element, row)
    return f"{element}:{name}" if name else None


def _named(element: Element, row: RowMapping | Mapping[str, Any]) -> str | None:
    match element:
        case Element.CLIENT:
            return f"{row['user']}@{row['client_ip'] or ''}" if row["user"] else None
        case Element.AGENT:
            return row["workspace_id"] or None
        case Element.NODE:
            return row["node_id"] or row["workspace_id"] or None
        case Element.RELAY:
            return row["relay_region"] or "embedded"
        case Element.SERVER:
            return "server"


@dataclass(frozen=True, slots=True)
class Grouped:
    """The incident that a row is part of. `new`: it is known only since this row ended."""

    incident_id: str
    element: Element
    new: bool


async def group(tx: AsyncConnection, row: RowMapping) -> Grouped | None:
    """Put a settled row into the incident that it is part of; None where it is alone."""
    key = row["incident_key"]
    if key is None:
        return None
    c, element = connections.c, Element(key.partition(":")[0])
    at = row["disconnected_at"]
    near = (
        c.incident_key == key,
        c.disconnected_at.between(at - WINDOW_S, at + WINDOW_S),
        c.status == ConnectionStatus.CLOSED,
        # who was asked to stop the workspace after a crash has no part in the crash
        c.disconnect_expected.is_(row["disconnect_expected"]),
    )
    known = await tx.scalar(select(c.incident_id).where(*near, c.incident_id.is_not(None)).limit(1))
    if known is not None:
        await _add(tx, known, row)
        return Grouped(known, element, new=False)
    found = list(
        (await tx.execute(select(connections).where(*near).order_by(c.seq).limit(100))).mappings()
    )
    if not await _is_one(tx, key, found):
        return None
    root = _root_of(found)
    incident_id = uuid.uuid4().hex
    await tx.execute(
        insert(incidents).values(
            incident_id=incident_id,
            element=key,
            cause=root["disconnect_cause"],
            root_event_id=root["connection_id"],
            began_at=min(one["disconnected_at"] for one in found),
        )
    )
    await _join(tx, incident_id, root["connection_id"], [one["connection_id"] for one in found])
    return Grouped(incident_id, element, new=True)


async def _add(tx: AsyncConnection, incident_id: str, row: RowMapping) -> None:
    """One more: it is the root where it is nearer to what happened than the root was."""
    c = connections.c
    said = await tx.scalar(
        select(incidents.c.root_event_id).where(incidents.c.incident_id == incident_id)
    )
    found = await tx.execute(select(connections).where(c.connection_id == said))
    was = found.mappings().one_or_none()
    nearer = was is None or (
        was["connect_type"] == ConnectType.AGENT_TO_CLIENT != row["connect_type"]
    )
    root = row if nearer or was is None else was
    await _join(tx, incident_id, root["connection_id"], [row["connection_id"]])
    if nearer:
        await _follow(tx, incident_id, row)


async def _follow(tx: AsyncConnection, incident_id: str, root: RowMapping) -> None:
    """The incident has another root."""
    await tx.execute(
        update(connections)
        .where(connections.c.incident_id == incident_id)
        .values(root_event_id=root["connection_id"])
    )
    await _say(tx, incident_id, cause=root["disconnect_cause"], root_event_id=root["connection_id"])


async def _is_one(tx: AsyncConnection, key: str, found: list[RowMapping]) -> bool:
    if len(found) >= ENOUGH:
        return True
    if len(found) < AT_LEAST:
        return False
    left = await _standing(tx, key, found[0])
    return len(found) / (len(found) + left) >= SHARE


async def _standing(tx: AsyncConnection, key: str, row: RowMapping) -> int:
    """How many connections still stand on the element."""
    c = connections.c
    match Element(key.partition(":")[0]):
        case Element.CLIENT:
            mine = (c.user == row["user"]) & (c.client_ip == row["client_ip"])
        case Element.AGENT:
            mine = c.workspace_id == row["workspace_id"]
        case Element.NODE:
            mine = c.node_id == row["node_id"]
        case Element.RELAY:
            mine = (
                (c.relay_region == row["relay_region"])
                & (c.connect_type == ConnectType.AGENT_TO_CLIENT)
                & c.detached_since.is_(None)  # who has lost it stands on it no more
            )
        case Element.SERVER:
            mine = c.connect_type != ConnectType.AGENT_TO_CLIENT
    left = await tx.scalar(select(func.count()).where(c.status == ConnectionStatus.ONGOING, mine))
    return left or 0


async def _join(
    tx: AsyncConnection, incident_id: str | None, root: str | None, ids: list[str]
) -> None:
    await tx.execute(
        update(connections)
        .where(connections.c.connection_id.in_(ids))
        .values(incident_id=incident_id, root_event_id=root)
    )


async def leave(
    tx: AsyncConnection, row: RowMapping, key: str | None, disconnect: Disconnect
) -> None:
    """A row is judged anew. If it is about something else now, or planned where it was not (or the other
    way round), it leaves its incident, and others go on without it; if it is the root, its cause is the
    incident's."""
    incident_id = row["incident_id"]
    if incident_id is None:
        return
    is_root = row["root_event_id"] == row["connection_id"]
    if row["incident_key"] == key and row["disconnect_expected"] == disconnect.expected:
        if is_root:
            await _say(tx, incident_id, cause=disconnect.cause)
        return
    c = connections.c
    await tx.execute(
        update(connections)
        .where(c.connection_id == row["connection_id"])
        .values(incident_id=None, root_event_id=None)
    )
    left = list(
        (
            await tx.execute(
                select(connections).where(c.incident_id == incident_id).order_by(c.seq).limit(100)
            )
        ).mappings()
    )
    if len(left) < AT_LEAST:
        await _join(tx, None, None, [one["connection_id"] for one in left])
        await tx.execute(delete(incidents).where(incidents.c.incident_id == incident_id))
    elif is_root:
        await _follow(tx, incident_id, _root_of(left))


def _root_of(rows: list[RowMapping]) -> RowMapping:
    """The nearest to what happened: a control link where there is one, else what began first."""
    return min(
        rows, key=lambda one: (one["connect_type"] == ConnectType.AGENT_TO_CLIENT, one["seq"])
    )


async def _say(tx: AsyncConnection, incident_id: str, **changes: str) -> None:
    await tx.execute(
        update(incidents).where(incidents.c.incident_id == incident_id).values(changes)
    )
