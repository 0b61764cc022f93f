"""Rows of the connection log, inside one transaction: an end is judged, and its row closed or revised.

Law: a row is judged from all that is on file about it, here and nowhere else; it is closed once, and
what is found out later becomes a revision. Nothing is logged or counted here: the transaction may yet
be undone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.attribution.causes.codes import AGENT_NODE_LOST
from tether.attribution.classify import Verdict
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import Vantage
from tether.protocol.messages.reports import PathRecord
from tether.server.connlog import activity, correlate, incidents, own_words
from tether.server.connlog.activity import Tally
from tether.server.connlog.incidents import Grouped
from tether.server.connlog.judge import (
    Testimony,
    classify_end,
    columns_of,
    differs,
    is_conclusion_from_absence,
)
from tether.server.connlog.records import find
from tether.server.connlog.testimonies import add_testimony, testimonies_about
from tether.server.db.fetch import fetch_one
from tether.server.db.tables.connections import (
    ConnectionRow,
    ConnectionStatus,
    connections,
    revisions,
)


@dataclass(frozen=True, slots=True)
class RowOpened:
    """A connection came up."""

    row: ConnectionRow


@dataclass(frozen=True, slots=True)
class RowClosed:
    """A connection was closed, for the first time. `row` is its row now."""

    row: ConnectionRow
    verdict: Verdict
    ended_with_it: tuple[Tally, ...] = ()
    grouped: Grouped | None = None


@dataclass(frozen=True, slots=True)
class RowRevised:
    """A closed connection is judged differently now. `was`: its cause before."""

    row: ConnectionRow
    was: str | None
    grouped: Grouped | None = None


@dataclass(frozen=True, slots=True)
class PathChanged:
    """Something happened to the path of a tunnel; the tunnel goes on."""

    row: ConnectionRow
    record: PathRecord


@dataclass(frozen=True, slots=True)
class RowReopened:
    """A connection that was taken for ended lives. `was`: the cause that it had been given."""

    row: ConnectionRow
    was: str


@dataclass(frozen=True, slots=True)
class ClientLeft:
    """An open tunnel is over for its client, and its agent has not reported that."""

    row: ConnectionRow
    died: bool = False
    """Whether it is the post-mortem of its client that says so."""


@dataclass(frozen=True, slots=True)
class ClientLostAgent:
    """The client of an open tunnel saw its agent's own stream end, and has given the tunnel up."""

    row: ConnectionRow


Event = (
    RowOpened | RowClosed | RowRevised | RowReopened | PathChanged | ClientLeft | ClientLostAgent
)


async def mark_open(tx: AsyncConnection, connection_id: str, at: float) -> RowOpened | None:
    """Make a pending row ongoing; None if it was not pending."""
    changed = (
        update(connections)
        .where(
            connections.c.connection_id == connection_id,
            connections.c.status == ConnectionStatus.PENDING,
        )
        .values(status=ConnectionStatus.ONGOING, connected_at=at)
        .returning(connections)
    )
    row = await fetch_one(tx, changed, ConnectionRow)
    return None if row is None else RowOpened(row)


async def settle(
    tx: AsyncConnection, row: ConnectionRow, *, ended_at: float, now: float
) -> list[Event]:
    """Judge a connection that is over: close its row, or revise it where the verdict is another one.

    Args:
        tx: the transaction.
        row: the connection as it is stored now.
        ended_at: when it ended, as far as is known; used only for the first close.
        now: the server's clock.
    """
    verdict = await _judge(tx, row, ended_at=ended_at, now=now)
    closed_before = row.is_closed
    if closed_before and not differs(verdict, row):
        return []
    key = incidents.key_of(row, verdict.disconnect.cause)
    await incidents.leave(tx, row, key, verdict.disconnect)
    settled = await _store(tx, row, verdict, incident_key=key, ended_at=ended_at, now=now)
    grouped = None if settled.incident_id else await incidents.group(tx, settled)
    if grouped is not None:
        settled = await find(tx, row.connection_id) or settled
    if closed_before:
        return [RowRevised(settled, was=row.disconnect_cause, grouped=grouped)]
    assert settled.disconnected_at is not None, "it was just closed"
    ended = await activity.end_open(tx, row.connection_id, settled.disconnected_at)
    return [RowClosed(settled, verdict, tuple(ended), grouped)]


async def _judge(
    tx: AsyncConnection, row: ConnectionRow, *, ended_at: float, now: float
) -> Verdict:
    """The verdict from what is on file, and from what the server itself knows around the end.

    What the server knows is put on file first, so that the verdict can be explained later.
    """
    on_file = await testimonies_about(tx, row)
    verdict = classify_end(row.connect_type, on_file, row.carrier)
    confirmed = _not_on_file(await own_words.confirmed(tx, row, on_file), on_file)
    if confirmed:
        await add_testimony(tx, row.connection_id, Testimony(Vantage.SERVER, now, confirmed))
        on_file = await testimonies_about(tx, row)
        verdict = classify_end(row.connect_type, on_file, row.carrier)
    around = await correlate.facts_around(tx, row, verdict.disconnect, ended_at=ended_at, now=now)
    new = _not_on_file(around, on_file)
    if not new:
        return verdict
    await add_testimony(tx, row.connection_id, Testimony(Vantage.SERVER, now, new))
    on_file = await testimonies_about(tx, row)
    return classify_end(row.connect_type, on_file, row.carrier)


def _not_on_file(facts: tuple[Evidence, ...], on_file: list[Testimony]) -> tuple[Evidence, ...]:
    """Those of `facts` that are new: each time that a row is judged, they are found again."""
    known = [replace(fact, at=0.0) for one in on_file for fact in one.facts]
    return tuple(fact for fact in facts if replace(fact, at=0.0) not in known)


async def _store(
    tx: AsyncConnection,
    row: ConnectionRow,
    verdict: Verdict,
    *,
    incident_key: str | None,
    ended_at: float,
    now: float,
) -> ConnectionRow:
    """Write a verdict into its row, and append it as a revision; the row as it is then."""
    changes: dict[str, Any] = {
        **columns_of(verdict),
        "revision": row.revision + 1,
        "incident_key": incident_key,
    }
    if not row.is_closed:
        connected_at = ended_at if row.connected_at is None else row.connected_at
        changes |= {
            "status": ConnectionStatus.CLOSED,
            "connected_at": connected_at,
            "disconnected_at": min(max(ended_at, connected_at), max(now, connected_at)),
            "detached_since": None,
        }
    changed = (
        update(connections)
        .where(connections.c.connection_id == row.connection_id)
        .values(changes)
        .returning(connections)
    )
    settled = await fetch_one(tx, changed, ConnectionRow)
    assert settled is not None, "rows of ends are not deleted"
    await tx.execute(
        insert(revisions).values(
            connection_id=row.connection_id,
            revision=row.revision + 1,
            as_of=now,
            rule=verdict.rule,
            because=verdict.because,
            fields=verdict.disconnect.fields(),
        )
    )
    return settled


REOPENED = "reopened"
"""The rule of the revision that withdraws an end."""


async def reopen(
    tx: AsyncConnection, row: ConnectionRow, returned: Evidence, now: float
) -> list[Event]:
    """Withdraw the end of a tunnel whose agent has come back and still serves it, as a revision.

    Nothing is done where the end is more than the server's own conclusion from an absence: where its
    agent has reported it, or somebody had decided or announced it.
    """
    on_file = await testimonies_about(tx, row)
    if not row.is_closed or not is_conclusion_from_absence(on_file):
        return []
    await add_testimony(tx, row.connection_id, Testimony(Vantage.SERVER, now, (returned,)))
    if row.incident_id is not None:
        await incidents.withdraw(tx, row)
    was = row.disconnect_cause or ""
    nothing = dict.fromkeys(columns_of(classify_end(row.connect_type, on_file, row.carrier)))
    changed = (
        update(connections)
        .where(connections.c.connection_id == row.connection_id)
        .values(
            {
                **nothing,
                "status": ConnectionStatus.ONGOING,
                "disconnected_at": None,
                "incident_key": None,
                "revision": row.revision + 1,
            }
        )
        .returning(connections)
    )
    reopened = await fetch_one(tx, changed, ConnectionRow)
    assert reopened is not None, "rows of ends are not deleted"
    withdrawn = select(revisions.c.fields).where(
        revisions.c.connection_id == row.connection_id, revisions.c.revision == row.revision
    )
    await tx.execute(
        insert(revisions).values(
            connection_id=row.connection_id,
            revision=row.revision + 1,
            as_of=now,
            rule=REOPENED,
            because="the run of the agent that serves it has come back: this end is withdrawn",
            fields=await tx.scalar(withdrawn) or {},
        )
    )
    return [RowReopened(reopened, was)]


# -- ends that are judged again because of something else ------------------------------------------


async def rejudge_same_host(tx: AsyncConnection, row: ConnectionRow, now: float) -> list[Event]:
    """An agent's end showed that its machine is lost: judge what else was lost with it again."""
    if row.disconnect_cause != AGENT_NODE_LOST:
        return []
    events: list[Event] = []
    for other in await correlate.same_host_rows(tx, row):
        assert other.disconnected_at is not None, "it is closed"
        facts = await correlate.same_host_ends(tx, other, other.disconnected_at, now)
        events += await settle_with(tx, other, facts, now)
    return events


async def agent_returned(
    tx: AsyncConnection, connection_id: str, instance_id: str, boot_id: str, now: float
) -> list[Event]:
    """Judge the agent's last link again, now that it is known who came back, and from where."""
    row = await find(tx, connection_id)
    last = row and await correlate.unexplained_last_link(tx, row, now)
    if row is None or last is None:
        return []
    returned = correlate.agent_return(last, row, instance_id=instance_id, boot_id=boot_id, now=now)
    return await settle_with(tx, last, (returned,), now)


async def client_returned(
    tx: AsyncConnection, connection_id: str, returned: Evidence, now: float
) -> list[Event]:
    """Judge a client's closed link again, now that the same run has dialled anew."""
    row = await find(tx, connection_id)
    if row is None or row.disconnect_cause not in correlate.BY_RETURN:
        return []
    return await settle_with(tx, row, (returned,), now)


async def settle_with(
    tx: AsyncConnection,
    row: ConnectionRow,
    facts: tuple[Evidence, ...],
    now: float,
    *,
    ended_at: float | None = None,
) -> list[Event]:
    """Put facts of the server's own on file about an end, and judge it with them.

    Args:
        tx: the transaction.
        row: the connection as it is stored now.
        facts: what the server knows.
        now: the server's clock.
        ended_at: as for `settle`; None: now.
    """
    if facts:
        await add_testimony(tx, row.connection_id, Testimony(Vantage.SERVER, now, facts))
    return await settle(tx, row, ended_at=now if ended_at is None else ended_at, now=now)
