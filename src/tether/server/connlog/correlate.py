"""What the server itself knows around an end: what somebody had asked for, and who else ended then.

Law: facts of the server's own vantage, from its own rows and its own clock; nothing is concluded here.
Asked only for an end that nobody declared, so that an ordinary end costs no query.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, RowMapping, and_, exists, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.attribution import evidence as ev
from tether.attribution.causes.catalogue import codes_where
from tether.attribution.predicates.sessions import INTENT_S
from tether.attribution.vocabulary import (
    ConnectionMethod,
    ConnectType,
    Correction,
    Element,
    Party,
    Vantage,
)
from tether.server.connlog.judge import JudgedEnd
from tether.server.db.tables.connections import ConnectionStatus, connections, path_events
from tether.server.db.tables.workspaces import IntentKind, intents

WINDOW_S = 30.0
"""Ends within two keepalives of each other are one event's: some are noticed later than others."""

_ENDING = (IntentKind.STOP, IntentKind.EVICT, IntentKind.DELETE, IntentKind.REVOKE_USER)

SEEN_S = 5.0
"""By then, every agent whose tunnel lost a relay, too, has told so."""

BY_HOST = codes_where(lambda row: Correction.SAME_HOST in row.corrected_by)
BY_RETURN = codes_where(lambda row: Correction.RETURN in row.corrected_by)
"""Causes that say of one agent what may be true of its machine, and that a return may correct."""

CLIENT_ONE_WAY = codes_where(lambda row: row.holds_for_tunnels and row.element is Element.CLIENT)
AGENT_ONE_WAY = codes_where(lambda row: row.holds_for_tunnels and row.element is Element.AGENT)
"""Causes of a control link that tell which way a tunnel of the same party was lost."""

OUTAGE_S = 90.0
"""A control link is given up after 45 s at most, a tunnel after its own patience: of one outage, their
ends are hardly ever further apart."""


async def around(
    tx: AsyncConnection,
    row: RowMapping,
    judgement: JudgedEnd,
    *,
    ended_at: float | None,
    now: float,
) -> tuple[ev.Evidence, ...]:
    """The facts to judge `row` with besides. `ended_at`: it is closed now, for the first time."""
    cause = judgement.verdict.disconnect.row
    if ended_at is None:  # its client has reported since, of its control link as well
        return await beside(tx, row, judgement, ended_at=row["disconnected_at"], now=now)
    if cause.expected and Correction.INTENT not in cause.corrected_by:
        return ()
    intent = await _intent(tx, row, ended_at=ended_at, now=now)
    others: tuple[ev.Evidence, ...] = ()
    if Correction.SAME_HOST in cause.corrected_by:
        others = await together(tx, row, ended_at=ended_at, now=now)
    elif Correction.SAME_RELAY in cause.corrected_by:
        others = await on_the_relay(tx, row, ended_at=ended_at, now=now)
    near = await beside(tx, row, judgement, ended_at=ended_at, now=now)
    return (*intent, *others, *near)


async def _intent(
    tx: AsyncConnection, row: RowMapping, *, ended_at: float, now: float
) -> tuple[ev.Evidence, ...]:
    """What was asked for last of the row's workspace or user, if that ends a connection."""
    about = [and_(intents.c.kind == IntentKind.REVOKE_USER, intents.c.subject == row["user"])]
    if row["workspace_id"] is not None:
        about.append(intents.c.workspace_id == row["workspace_id"])
    found = await tx.execute(
        select(intents)
        .where(or_(*about), intents.c.at.between(ended_at - INTENT_S, ended_at))
        .order_by(intents.c.id.desc())
        .limit(1)
    )
    intent = found.mappings().one_or_none()
    if intent is None or intent["kind"] not in _ENDING or not intent["cause"]:
        return ()
    return (
        ev.IntentRecorded(
            vantage=Vantage.SERVER,
            at=now,
            intent=intent["kind"],
            cause=intent["cause"],
            before_s=round(ended_at - intent["at"], 3),
            actor=intent["actor"],
        ),
    )


async def beside(
    tx: AsyncConnection, row: RowMapping, judgement: JudgedEnd, *, ended_at: float, now: float
) -> tuple[ev.Evidence, ...]:
    """What the end of its client's or its agent's control link tells of a tunnel that was lost with it.

    A link that was lost up to `OUTAGE_S` before counts, also where its party has come back since: a
    client gives its tunnel up, and its agent, one after the other.
    """
    if row["connect_type"] != ConnectType.AGENT_TO_CLIENT:
        return ()
    if Correction.CONTROL_LINK not in judgement.verdict.disconnect.row.corrected_by:
        return ()
    c = connections.c
    of_the_client = and_(
        c.connect_type == str(ConnectType.CLIENT_TO_SERVER),
        c.user == row["user"],
        c.client_ip == row["client_ip"],
        c.disconnect_cause.in_(CLIENT_ONE_WAY),
    )
    of_the_agent = and_(
        c.connect_type == str(ConnectType.SERVER_TO_AGENT),
        c.workspace_id == row["workspace_id"],
        c.disconnect_cause.in_(AGENT_ONE_WAY),
    )
    found = await tx.execute(
        select(c.disconnect_cause, c.disconnected_at)
        .where(
            or_(of_the_client, of_the_agent),
            c.status == str(ConnectionStatus.CLOSED),
            c.disconnected_at.between(ended_at - OUTAGE_S, ended_at + WINDOW_S),
        )
        .order_by(c.seq.desc())
        .limit(1)
    )
    link = found.one_or_none()
    if link is None:
        return ()
    return (
        ev.NeighbourEnded(
            vantage=Vantage.SERVER,
            at=now,
            party=Party.CLIENT if link.disconnect_cause in CLIENT_ONE_WAY else Party.AGENT,
            cause=link.disconnect_cause,
            before_s=round(ended_at - link.disconnected_at, 3),
        ),
    )


def _mates(row: RowMapping) -> list[ColumnElement[bool]]:
    c = connections.c
    return [
        c.node_id == row["node_id"],
        c.connect_type == str(ConnectType.SERVER_TO_AGENT),
        c.workspace_id != row["workspace_id"],
    ]


async def together(
    tx: AsyncConnection, row: RowMapping, *, ended_at: float, now: float
) -> tuple[ev.Evidence, ...]:
    """How many agents of the row's machine ended within the window, if this one is not alone."""
    if row["node_id"] is None or row["workspace_id"] is None:
        return ()
    c = connections.c
    ended, alive = [
        await tx.scalar(
            select(func.count(func.distinct(c.workspace_id))).where(*_mates(row), which)
        )
        or 0
        for which in (_ended_around(ended_at), c.status == str(ConnectionStatus.ONGOING))
    ]
    return () if not ended else (_counted(Element.NODE, ended + 1, alive, now),)


async def on_the_relay(
    tx: AsyncConnection, row: RowMapping, *, ended_at: float, now: float
) -> tuple[ev.Evidence, ...]:
    """How many tunnels of the row's relay ended within the window, and how many it still carries.

    What it carries counts only if it did so before this tunnel lost it, and still does `SEEN_S` after:
    a relay that died takes moments to be missed by all, and one that is back carries others.
    """
    c, lost_at = connections.c, row["detached_since"]
    if row["relay_region"] is None:
        return ()
    here = (
        c.relay_region == row["relay_region"],
        c.connect_type == str(ConnectType.AGENT_TO_CLIENT),
        c.parent_id.is_(None),
        c.connection_id != row["connection_id"],
    )
    ended = await tx.scalar(
        select(func.count()).where(
            *here,
            _ended_around(ended_at),
            c.incident_key == f"{Element.RELAY}:{row['relay_region']}",
        )
    )
    alive = 0
    if lost_at is not None and ended_at - lost_at >= SEEN_S:
        moved = exists().where(
            path_events.c.connection_id == c.connection_id,
            path_events.c.received_at >= lost_at - SEEN_S,
        )
        carried = (
            *(c.status == str(ConnectionStatus.ONGOING), c.detached_since.is_(None)),
            *(c.connection_method == str(ConnectionMethod.DERP), c.connected_at < lost_at),
        )
        alive = await tx.scalar(select(func.count()).where(*here, *carried, ~moved)) or 0
    if not ended and not alive:
        return ()
    return (_counted(Element.RELAY, (ended or 0) + 1, alive, now),)


def _ended_around(at: float) -> ColumnElement[bool]:
    c = connections.c
    return (c.status == str(ConnectionStatus.CLOSED)) & c.disconnected_at.between(
        at - WINDOW_S, at + WINDOW_S
    )


def _counted(element: Element, ended: int, alive: int, now: float) -> ev.EndedTogether:
    return ev.EndedTogether(
        vantage=Vantage.SERVER, at=now, element=element, ended=ended, alive=alive
    )


async def mates_to_judge_again(tx: AsyncConnection, row: RowMapping) -> Sequence[RowMapping]:
    """What else of the machine ended around then, each judged for itself: links, and tunnels."""
    if row["node_id"] is None:
        return ()
    c = connections.c
    found = await tx.execute(
        select(connections)
        .where(
            c.node_id == row["node_id"],
            c.connection_id != row["connection_id"],
            _ended_around(row["disconnected_at"]),
            c.disconnect_cause.in_(BY_HOST),
        )
        .order_by(c.connect_type.desc(), c.seq)  # links first: they are the root of what follows
        .limit(100)
    )
    return found.mappings().all()


RETURN_S = 600.0
"""A return after more than this says nothing of the end before it."""


async def unexplained_before(tx: AsyncConnection, row: RowMapping, now: float) -> RowMapping | None:
    """The last link of this workspace's agent, if it ended lately and for no known reason."""
    c = connections.c
    found = await tx.execute(
        select(connections)
        .where(
            c.workspace_id == row["workspace_id"],
            c.connect_type == ConnectType.SERVER_TO_AGENT,
            c.seq < row["seq"],
        )
        .order_by(c.seq.desc())
        .limit(1)
    )
    last = found.mappings().one_or_none()
    if last is None or last["status"] != ConnectionStatus.CLOSED:
        return None
    lately = now - last["disconnected_at"] <= RETURN_S
    return last if lately and last["disconnect_cause"] in BY_RETURN else None


def returned(
    last: RowMapping, row: RowMapping, *, instance_id: str, boot_id: str, now: float
) -> ev.PeerReturned:
    """Who came back after `last` ended, beside who had left."""
    known_boot = bool(last["node_id"] and boot_id)
    return ev.PeerReturned(
        vantage=Vantage.SERVER,
        at=now,
        party=Party.AGENT,
        after_s=round(max(0.0, now - last["disconnected_at"]), 3),
        same_run=last["agent_instance"] == instance_id,
        same_address=last["client_ip"] == row["client_ip"],
        same_boot=last["node_id"] == boot_id if known_boot else None,
    )
