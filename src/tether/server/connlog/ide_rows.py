"""IDE sessions as rows of the connection log, each with the SSH connection that it began on as parent.

Law: inside one transaction. A row opens with the first report of its session and closes with the
report of its end, judged as any other row. One whose agent's run is over without that report is an
orphan: it ends with its parent and is judged from what is on file about the parent, so that nothing
stays ongoing; a report that comes later may revise it.
"""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import exists, func, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.attribution import evidence as ev
from tether.attribution.vocabulary import ConnectionType, ConnectType, Vantage
from tether.protocol.messages.base import facts_of
from tether.protocol.messages.reports import IdeChannel, IdeSessionRecord
from tether.server.connlog.activity import MAX_COUNT, MAX_NAME, MAX_TEXT, are_times, bounded
from tether.server.connlog.judge import Testimony
from tether.server.connlog.records import IS_CHILD, IS_ONGOING, find
from tether.server.connlog.rows import Event, RowOpened, settle
from tether.server.connlog.testimonies import add_testimony, testimonies_about
from tether.server.db.fetch import fetch_all
from tether.server.db.tables.activity import ide_sessions
from tether.server.db.tables.connections import ConnectionRow, ConnectionStatus, connections

MAX_SESSIONS = 256
"""IDE sessions of one connection that get rows."""

MAX_CHANNELS = 64
ORPHAN_AFTER_S = 60.0
"""How long after its parent's end an agent may report a session's: it waits for the IDE to return."""

_ID = re.compile(r"[0-9a-f]{32}")
_TYPES = (ConnectionType.JETBRAINS, ConnectionType.VSCODE)
_OF_THE_PARENT = (ev.SessionEnded, ev.TerminalDetached, ev.PolicyRefused)
"""Facts about what else ran over the parent, and not about an IDE."""


async def keep(
    tx: AsyncConnection, parent: ConnectionRow, item: IdeSessionRecord, *, since: float, now: float
) -> list[Event] | None:
    """Keep the start or the end of an IDE session; None if it makes no sense.

    Args:
        tx: the transaction.
        parent: the row of the SSH connection, which is the reporter's to testify about.
        item: what was reported.
        since: what began before this, by the agent's clock, comes from the agent's journal.
        now: the server's clock.
    """
    times = [at for at in (item.started_at, item.ended_at) if at is not None]
    if (
        not _ID.fullmatch(item.session_id)
        or not are_times(*times)
        or len(item.caused_by) > MAX_NAME
        or not 0 <= item.backend_pid <= MAX_COUNT
        or parent.connected_at is None  # it is only granted
    ):
        return None
    # how long it lasted is the agent's clock, when it began may be the server's
    lasted = 0.0 if item.ended_at is None else max(0.0, item.ended_at - item.started_at)
    row = await find(tx, item.session_id)
    events: list[Event] = []
    if row is None:
        if await _children_of(tx, parent) >= MAX_SESSIONS:
            return None
        began_at = item.started_at if item.started_at < since else now - lasted
        row = await _insert(tx, parent, item, min(max(began_at, parent.connected_at), now))
        events.append(RowOpened(row))
    elif row.parent_id != parent.connection_id:
        return None  # it is another connection, whoever's
    await _keep_details(tx, item)
    if item.ended_at is None:
        return events
    facts, symptoms = tuple(facts_of(item.facts)), tuple(facts_of(item.symptoms))
    await add_testimony(tx, item.session_id, Testimony(Vantage.AGENT, now, facts, symptoms))
    ended_at = (row.connected_at or row.created_at) + lasted
    return events + await settle(tx, row, ended_at=ended_at, now=now)


async def close_orphans(
    tx: AsyncConnection, *, now: float, of: ConnectionRow | None = None
) -> list[Event]:
    """Close the sessions whose run of the agent carries nothing more for their user.

    Args:
        tx: the transaction.
        now: the server's clock.
        of: a connection that was just closed without its agent: its user's sessions are closed at
            once. Without it, all that have waited for long enough.
    """
    parents, others = connections.alias("parents"), connections.alias("others")
    child = connections.c
    carried = exists().where(
        others.c.workspace_id == child.workspace_id,
        others.c.user.is_not_distinct_from(child.user),
        others.c.journal_id.is_not_distinct_from(child.journal_id),
        others.c.agent_instance.is_not_distinct_from(child.agent_instance),
        others.c.connect_type == ConnectType.AGENT_TO_CLIENT,
        others.c.status == ConnectionStatus.ONGOING,
        others.c.parent_id.is_(None),
    )
    query = (
        select(connections)
        .join(parents, parents.c.connection_id == child.parent_id)
        .where(IS_CHILD, IS_ONGOING, parents.c.status == ConnectionStatus.CLOSED, ~carried)
        .order_by(child.seq)
    )
    if of is not None:
        query = query.where(
            child.workspace_id == of.workspace_id, child.user.is_not_distinct_from(of.user)
        )
    else:
        before = now - ORPHAN_AFTER_S
        query = query.where(parents.c.disconnected_at <= before, child.created_at <= before)
    events: list[Event] = []
    for row in await fetch_all(tx, query, ConnectionRow):
        events += await _close_with_parent(tx, row, now)
    return events


async def _close_with_parent(tx: AsyncConnection, row: ConnectionRow, now: float) -> list[Event]:
    parent = None if row.parent_id is None else await find(tx, row.parent_id)
    assert parent is not None, "a parent is never deleted once it was open"
    assert parent.disconnected_at is not None, "it is closed"
    for testimony in await testimonies_about(tx, parent):
        facts = tuple(fact for fact in testimony.facts if not isinstance(fact, _OF_THE_PARENT))
        if facts:
            about_it = Testimony(testimony.reporter, now, facts)
            await add_testimony(tx, row.connection_id, about_it)
    await tx.execute(
        update(ide_sessions)
        .where(ide_sessions.c.connection_id == row.connection_id)
        .values(caused_by=parent.connection_id)
    )
    return await settle(tx, row, ended_at=parent.disconnected_at, now=now)


async def _insert(
    tx: AsyncConnection, parent: ConnectionRow, item: IdeSessionRecord, began_at: float
) -> ConnectionRow:
    known = item.session_type in _TYPES
    await tx.execute(
        insert(connections).values(
            connection_id=item.session_id,
            parent_id=parent.connection_id,
            status=ConnectionStatus.ONGOING,
            type=item.session_type if known else ConnectionType.PORT_FORWARD,
            app=parent.app if parent.type == item.session_type else "",
            created_at=began_at,
            connected_at=began_at,
            connect_type=parent.connect_type,
            workspace_id=parent.workspace_id,
            workspace=parent.workspace,
            agent=parent.agent,
            user=parent.user,
            client_ip=parent.client_ip,
            connection_method=parent.connection_method,
            client_session_id=parent.client_session_id,
            journal_id=parent.journal_id,
            agent_instance=parent.agent_instance,
        )
    )
    row = await find(tx, item.session_id)
    assert row is not None, "it was just inserted"
    return row


async def _keep_details(tx: AsyncConnection, item: IdeSessionRecord) -> None:
    kept = insert(ide_sessions).values(
        connection_id=item.session_id,
        backend_pid=item.backend_pid,
        backend_marker=item.backend_marker[:MAX_TEXT],
        caused_by=item.caused_by,
        channels=[_channel(one) for one in item.channels[:MAX_CHANNELS]],
        channels_total=bounded(item.channels_total, MAX_COUNT),
    )
    changed = ("caused_by", "channels", "channels_total")
    await tx.execute(
        kept.on_conflict_do_update(
            index_elements=["connection_id"],
            set_={name: kept.excluded[name] for name in changed},
        )
    )
    await tx.execute(
        update(connections)
        .where(connections.c.connection_id == item.session_id)
        .values(rx_bytes=bounded(item.rx_bytes), tx_bytes=bounded(item.tx_bytes))
    )


def _channel(one: IdeChannel) -> dict[str, Any]:
    if not are_times(one.started_at, one.ended_at):
        raise ValueError("a channel without times")
    return {
        "connection_id": one.connection_id[:MAX_NAME],
        "destination": one.destination[:MAX_TEXT],
        "started_at": one.started_at,
        "ended_at": one.ended_at,
        "end": one.end[:MAX_NAME],
        "rx_bytes": bounded(one.rx_bytes),
        "tx_bytes": bounded(one.tx_bytes),
    }


async def _children_of(tx: AsyncConnection, parent: ConnectionRow) -> int:
    its = connections.c.parent_id == parent.connection_id
    return await tx.scalar(select(func.count()).where(its)) or 0
