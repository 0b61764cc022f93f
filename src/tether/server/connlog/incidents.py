"""One incident, not fifty rows: ends that share an element within one window share an `incident_id`.

Law: grouping never changes a row's own cause, and never joins a planned end to one that was not. Which
element an end is about follows from its cause (the relay of a relay's crash, the agent of an agent's);
rows of one element that ended within `WINDOW_S` of each other are one incident where there are three of
them, or where they are at least half of all that depended on it. A control link is the root where there
is one: it is the nearest to what happened.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.attribution.causes.catalogue import cause_of
from tether.attribution.disconnect import Disconnect
from tether.attribution.vocabulary import ConnectType, Element
from tether.server.connlog.correlate import WINDOW_S
from tether.server.connlog.records import find
from tether.server.db.fetch import fetch_all
from tether.server.db.tables.connections import (
    ConnectionRow,
    ConnectionStatus,
    connections,
    incidents,
)

ENOUGH = 3
AT_LEAST = 2
SHARE = 0.5
MAX_ROWS = 100
"""Rows that are looked at to decide whether there is an incident."""


def key_of(row: ConnectionRow, cause: str) -> str | None:
    """The element's kind and name, for rows that can be part of an incident."""
    element = cause_of(cause).element
    if element is Element.CLIENT and row.connect_type is ConnectType.SERVER_TO_AGENT:
        element = Element.AGENT
    name = element and _name_of(element, row)
    return f"{element}:{name}" if name else None


def _name_of(element: Element, row: ConnectionRow) -> str | None:
    match element:
        case Element.CLIENT:
            return f"{row.user}@{row.client_ip or ''}" if row.user else None
        case Element.AGENT:
            return row.workspace_id or None
        case Element.NODE:
            return row.node_id or row.workspace_id or None
        case Element.RELAY:
            return row.relay_region or "embedded"
        case Element.SERVER:
            return "server"


def _element_in(key: str) -> Element:
    return Element(key.partition(":")[0])


@dataclass(frozen=True, slots=True)
class Grouped:
    """The incident that a row is part of. `new`: it is known only since this row ended."""

    incident_id: str
    element: Element
    new: bool


async def group(tx: AsyncConnection, row: ConnectionRow) -> Grouped | None:
    """Put a settled row into the incident that it is part of; None where it is alone."""
    key, at = row.incident_key, row.disconnected_at
    if key is None or at is None:
        return None
    c = connections.c
    near = (
        c.incident_key == key,
        c.disconnected_at.between(at - WINDOW_S, at + WINDOW_S),
        c.status == ConnectionStatus.CLOSED,
        # who was asked to stop the workspace after a crash has no part in the crash
        c.disconnect_expected.is_(row.disconnect_expected),
    )
    known = await tx.scalar(select(c.incident_id).where(*near, c.incident_id.is_not(None)).limit(1))
    if known is not None:
        await _add(tx, known, row)
        return Grouped(known, _element_in(key), new=False)
    found = await _first_rows(tx, *near)
    if not await _is_one(tx, key, found):
        return None
    root, incident_id = _root_of(found), uuid.uuid4().hex
    await tx.execute(
        insert(incidents).values(
            incident_id=incident_id,
            element=key,
            cause=root.disconnect_cause,
            root_event_id=root.connection_id,
            began_at=min(one.disconnected_at or at for one in found),
        )
    )
    await _assign(tx, incident_id, root.connection_id, found)
    return Grouped(incident_id, _element_in(key), new=True)


async def leave(
    tx: AsyncConnection, row: ConnectionRow, key: str | None, disconnect: Disconnect
) -> None:
    """A row is judged anew: it leaves its incident where it has no part in it any more.

    That is where it is about something else now, or planned where it was not, or the other way round;
    the other rows go on without it. Where it stays and is the root, its cause is the incident's.
    """
    incident_id = row.incident_id
    if incident_id is None:
        return
    if row.incident_key == key and row.disconnect_expected == disconnect.expected:
        if row.root_event_id == row.connection_id:
            await _update(tx, incident_id, cause=disconnect.cause)
        return
    await withdraw(tx, row)


async def withdraw(tx: AsyncConnection, row: ConnectionRow) -> None:
    """Take a row out of its incident, which goes where it is no longer of several ends."""
    incident_id, is_root = row.incident_id, row.root_event_id == row.connection_id
    assert incident_id is not None, "it is part of one"
    await _assign(tx, None, None, [row])
    left = await _first_rows(tx, connections.c.incident_id == incident_id)
    if len(left) < AT_LEAST:
        await _assign(tx, None, None, left)
        await tx.execute(delete(incidents).where(incidents.c.incident_id == incident_id))
    elif is_root:
        await _make_root(tx, incident_id, _root_of(left))


async def _add(tx: AsyncConnection, incident_id: str, row: ConnectionRow) -> None:
    """One more: it is the root where it is nearer to what happened than the root was."""
    root_id = await tx.scalar(
        select(incidents.c.root_event_id).where(incidents.c.incident_id == incident_id)
    )
    root = None if root_id is None else await find(tx, root_id)
    if root is None or (_is_tunnel(root) and not _is_tunnel(row)):
        await _assign(tx, incident_id, row.connection_id, [row])
        await _make_root(tx, incident_id, row)
    else:
        await _assign(tx, incident_id, root.connection_id, [row])


async def _make_root(tx: AsyncConnection, incident_id: str, root: ConnectionRow) -> None:
    await tx.execute(
        update(connections)
        .where(connections.c.incident_id == incident_id)
        .values(root_event_id=root.connection_id)
    )
    await _update(tx, incident_id, cause=root.disconnect_cause, root_event_id=root.connection_id)


async def _is_one(tx: AsyncConnection, key: str, ended: Sequence[ConnectionRow]) -> bool:
    """Whether these ends are an incident, and not a coincidence."""
    if len(ended) >= ENOUGH:
        return True
    if len(ended) < AT_LEAST:
        return False
    depending = await _ongoing_on(tx, _element_in(key), ended[0])
    return len(ended) / (len(ended) + depending) >= SHARE


async def _ongoing_on(tx: AsyncConnection, element: Element, row: ConnectionRow) -> int:
    """How many ongoing connections depend on the element that `row` was about."""
    c = connections.c
    depends: ColumnElement[bool]
    match element:
        case Element.CLIENT:
            depends = (c.user == row.user) & (c.client_ip == row.client_ip)
        case Element.AGENT:
            depends = c.workspace_id == row.workspace_id
        case Element.NODE:
            depends = c.node_id == row.node_id
        case Element.RELAY:
            depends = (
                (c.relay_region == row.relay_region)
                & (c.connect_type == ConnectType.AGENT_TO_CLIENT)
                & c.detached_since.is_(None)  # a tunnel that has lost it depends on it no more
            )
        case Element.SERVER:
            depends = c.connect_type != ConnectType.AGENT_TO_CLIENT
    found = await tx.scalar(
        select(func.count()).where(c.status == ConnectionStatus.ONGOING, depends)
    )
    return found or 0


def _root_of(rows: Sequence[ConnectionRow]) -> ConnectionRow:
    """The nearest to what happened: a control link where there is one, else what began first."""
    return min(rows, key=lambda one: (_is_tunnel(one), one.seq))


def _is_tunnel(row: ConnectionRow) -> bool:
    return row.connect_type is ConnectType.AGENT_TO_CLIENT


async def _first_rows(tx: AsyncConnection, *where: Any) -> list[ConnectionRow]:
    query = select(connections).where(*where).order_by(connections.c.seq).limit(MAX_ROWS)
    return await fetch_all(tx, query, ConnectionRow)


async def _assign(
    tx: AsyncConnection,
    incident_id: str | None,
    root_event_id: str | None,
    rows: Sequence[ConnectionRow],
) -> None:
    await tx.execute(
        update(connections)
        .where(connections.c.connection_id.in_([row.connection_id for row in rows]))
        .values(incident_id=incident_id, root_event_id=root_event_id)
    )


async def _update(tx: AsyncConnection, incident_id: str, **changes: str | None) -> None:
    await tx.execute(
        update(incidents).where(incidents.c.incident_id == incident_id).values(changes)
    )
