"""What the server itself knows around an end: what somebody had asked for, and what else ended then.

Law: facts of the server's own vantage, from its own rows and its own clock; nothing is concluded here.
Asked only for an end that nobody declared, so that an ordinary end costs no query.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, and_, exists, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.attribution import evidence as ev
from tether.attribution.causes.catalogue import codes_where
from tether.attribution.disconnect import Disconnect
from tether.attribution.predicates.sessions import INTENT_S
from tether.attribution.vocabulary import (
    ConnectionMethod,
    ConnectType,
    Correction,
    Element,
    Party,
    Vantage,
)
from tether.server.db.fetch import fetch_all, fetch_one
from tether.server.db.tables.connections import (
    ConnectionRow,
    ConnectionStatus,
    connections,
    path_events,
)
from tether.server.db.tables.workspaces import IntentKind, IntentRow, intents

WINDOW_S = 30.0
"""Ends within two keepalives of each other are one event's: some are noticed later than others."""

OUTAGE_S = 90.0
"""A control link is given up after 45 s at most, a tunnel after its own patience: of one outage, their
ends are hardly ever further apart."""

SEEN_S = 5.0
"""By then, every agent whose tunnel lost a relay has reported so."""

RETURN_S = 600.0
"""A return after more than this proves nothing about the end before it."""

BY_HOST = codes_where(lambda row: Correction.SAME_HOST in row.corrected_by)
"""Causes of one agent's end that may be those of its whole machine."""

BY_RETURN = codes_where(lambda row: Correction.RETURN in row.corrected_by)
"""Causes of a control link that the return of its peer may correct."""

CLIENT_ONE_WAY = codes_where(lambda row: row.holds_for_tunnels and row.element is Element.CLIENT)
AGENT_ONE_WAY = codes_where(lambda row: row.holds_for_tunnels and row.element is Element.AGENT)
"""Causes of a control link that show which way a tunnel of the same party was lost."""

_ENDING = (IntentKind.STOP, IntentKind.EVICT, IntentKind.DELETE, IntentKind.REVOKE_USER)


async def facts_around(
    tx: AsyncConnection,
    row: ConnectionRow,
    disconnect: Disconnect,
    *,
    ended_at: float,
    now: float,
) -> tuple[ev.Evidence, ...]:
    """The facts to judge `row` with besides what was reported.

    Args:
        tx: the transaction.
        row: the connection as it is stored now.
        disconnect: how it is judged without these facts.
        ended_at: when it ended, where it is closed only now.
        now: the server's clock.
    """
    if row.disconnected_at is not None:  # since then its client may have reported of its link, too
        return await lost_control_link(tx, row, disconnect, row.disconnected_at, now)
    corrected_by = disconnect.row.corrected_by
    if disconnect.expected and Correction.INTENT not in corrected_by:
        return ()
    facts = await _recorded_intent(tx, row, ended_at, now)
    if Correction.SAME_HOST in corrected_by:
        facts += await same_host_ends(tx, row, ended_at, now)
    elif Correction.SAME_RELAY in corrected_by:
        facts += await same_relay_ends(tx, row, ended_at, now)
    return facts + await lost_control_link(tx, row, disconnect, ended_at, now)


async def _recorded_intent(
    tx: AsyncConnection, row: ConnectionRow, ended_at: float, now: float
) -> tuple[ev.Evidence, ...]:
    """What was asked for last of the row's workspace or user, if that ends a connection."""
    about = [and_(intents.c.kind == IntentKind.REVOKE_USER, intents.c.subject == row.user)]
    if row.workspace_id is not None:
        about.append(intents.c.workspace_id == row.workspace_id)
    query = (
        select(intents)
        .where(or_(*about), intents.c.at.between(ended_at - INTENT_S, ended_at))
        .order_by(intents.c.id.desc())
        .limit(1)
    )
    intent = await fetch_one(tx, query, IntentRow)
    if intent is None or intent.kind not in _ENDING or not intent.cause:
        return ()
    return (
        ev.IntentRecorded(
            vantage=Vantage.SERVER,
            at=now,
            intent=str(intent.kind),
            cause=intent.cause,
            before_s=round(ended_at - intent.at, 3),
            actor=intent.actor,
        ),
    )


async def lost_control_link(
    tx: AsyncConnection, row: ConnectionRow, disconnect: Disconnect, ended_at: float, now: float
) -> tuple[ev.Evidence, ...]:
    """How the control link of its client or its agent ended, for a tunnel that was lost with it.

    A link that was lost up to `OUTAGE_S` before counts, also where its party has come back since: a
    client gives its tunnel up, and its agent, one after the other.
    """
    if row.connect_type is not ConnectType.AGENT_TO_CLIENT:
        return ()
    if Correction.CONTROL_LINK not in disconnect.row.corrected_by:
        return ()
    c = connections.c
    of_the_client = and_(
        c.connect_type == ConnectType.CLIENT_TO_SERVER,
        c.user == row.user,
        c.client_ip == row.client_ip,
        c.disconnect_cause.in_(CLIENT_ONE_WAY),
    )
    of_the_agent = and_(
        c.connect_type == ConnectType.SERVER_TO_AGENT,
        c.workspace_id == row.workspace_id,
        c.disconnect_cause.in_(AGENT_ONE_WAY),
    )
    found = await tx.execute(
        select(c.disconnect_cause, c.disconnected_at)
        .where(
            or_(of_the_client, of_the_agent),
            c.status == ConnectionStatus.CLOSED,
            c.disconnected_at.between(ended_at - OUTAGE_S, ended_at + WINDOW_S),
        )
        .order_by(c.seq.desc())
        .limit(1)
    )
    link = found.one_or_none()
    if link is None:
        return ()
    cause, link_ended_at = link
    return (
        ev.NeighbourEnded(
            vantage=Vantage.SERVER,
            at=now,
            party=Party.CLIENT if cause in CLIENT_ONE_WAY else Party.AGENT,
            cause=cause,
            before_s=round(ended_at - link_ended_at, 3),
        ),
    )


async def same_host_ends(
    tx: AsyncConnection, row: ConnectionRow, ended_at: float, now: float
) -> tuple[ev.Evidence, ...]:
    """How many agents of the row's machine ended within the window, if this one is not alone."""
    if row.node_id is None or row.workspace_id is None:
        return ()
    c = connections.c
    others = (
        c.node_id == row.node_id,
        c.connect_type == ConnectType.SERVER_TO_AGENT,
        c.workspace_id != row.workspace_id,
    )
    workspaces = select(func.count(func.distinct(c.workspace_id))).where(*others)
    ended = await tx.scalar(workspaces.where(_ended_around(ended_at)))
    if not ended:
        return ()
    alive = await tx.scalar(workspaces.where(c.status == ConnectionStatus.ONGOING))
    return (_counted(Element.NODE, ended + 1, alive or 0, now),)


async def same_relay_ends(
    tx: AsyncConnection, row: ConnectionRow, ended_at: float, now: float
) -> tuple[ev.Evidence, ...]:
    """How many tunnels of the row's relay ended within the window, and how many it still carries.

    What it carries counts only if it did so before this tunnel lost it, and still does `SEEN_S` after:
    a relay that died takes moments to be missed by all, and one that is back carries others.
    """
    if row.relay_region is None:
        return ()
    c = connections.c
    others = select(func.count()).where(
        c.relay_region == row.relay_region,
        c.connect_type == ConnectType.AGENT_TO_CLIENT,
        c.parent_id.is_(None),
        c.connection_id != row.connection_id,
    )
    ended = await tx.scalar(
        others.where(
            _ended_around(ended_at), c.incident_key == f"{Element.RELAY}:{row.relay_region}"
        )
    )
    alive: int | None = 0
    lost_at = row.detached_since
    if lost_at is not None and ended_at - lost_at >= SEEN_S:
        moved = exists().where(
            path_events.c.connection_id == c.connection_id,
            path_events.c.received_at >= lost_at - SEEN_S,
        )
        alive = await tx.scalar(
            others.where(
                c.status == ConnectionStatus.ONGOING,
                c.detached_since.is_(None),
                c.connection_method == ConnectionMethod.DERP,
                c.connected_at < lost_at,
                ~moved,
            )
        )
    if not ended and not alive:
        return ()
    return (_counted(Element.RELAY, (ended or 0) + 1, alive or 0, now),)


def _ended_around(at: float) -> ColumnElement[bool]:
    c = connections.c
    return and_(
        c.status == ConnectionStatus.CLOSED,
        c.disconnected_at.between(at - WINDOW_S, at + WINDOW_S),
    )


def _counted(element: Element, ended: int, alive: int, now: float) -> ev.EndedTogether:
    return ev.EndedTogether(
        vantage=Vantage.SERVER, at=now, element=element, ended=ended, alive=alive
    )


async def same_host_rows(tx: AsyncConnection, row: ConnectionRow) -> Sequence[ConnectionRow]:
    """What else of the machine ended around then, each judged for itself: links, and tunnels."""
    if row.node_id is None or row.disconnected_at is None:
        return ()
    c = connections.c
    query = (
        select(connections)
        .where(
            c.node_id == row.node_id,
            c.connection_id != row.connection_id,
            _ended_around(row.disconnected_at),
            c.disconnect_cause.in_(BY_HOST),
        )
        .order_by(c.connect_type.desc(), c.seq)  # links first: they are the root of what follows
        .limit(100)
    )
    return await fetch_all(tx, query, ConnectionRow)


async def unexplained_last_link(
    tx: AsyncConnection, row: ConnectionRow, now: float
) -> ConnectionRow | None:
    """The agent's link before this one, if it ended lately and for no known reason."""
    c = connections.c
    query = (
        select(connections)
        .where(
            c.workspace_id == row.workspace_id,
            c.connect_type == ConnectType.SERVER_TO_AGENT,
            c.seq < row.seq,
        )
        .order_by(c.seq.desc())
        .limit(1)
    )
    last = await fetch_one(tx, query, ConnectionRow)
    if last is None or last.disconnected_at is None:
        return None
    lately = now - last.disconnected_at <= RETURN_S
    return last if lately and last.disconnect_cause in BY_RETURN else None


def agent_return(
    last: ConnectionRow, row: ConnectionRow, *, instance_id: str, boot_id: str, now: float
) -> ev.PeerReturned:
    """Who came back on `row`, compared with who had left on `last`."""
    after_s = 0.0 if last.disconnected_at is None else max(0.0, now - last.disconnected_at)
    return ev.PeerReturned(
        vantage=Vantage.SERVER,
        at=now,
        party=Party.AGENT,
        after_s=round(after_s, 3),
        same_run=last.agent_instance == instance_id,
        same_address=last.client_ip == row.client_ip,
        same_boot=last.node_id == boot_id if last.node_id and boot_id else None,
    )
