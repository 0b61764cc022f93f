"""Rows of the connection log, inside one transaction: evidence goes in, a judgement comes out.

Law: a row is judged from all that is on file about it, here and nowhere else; it is closed once, and
what is found out later becomes a revision. What a reporter may store is bounded. Nothing is logged or
announced here: the transaction may yet be undone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from sqlalchemy import RowMapping, and_, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.attribution.causes.codes import AGENT_NODE_LOST
from tether.attribution.evidence import Evidence
from tether.attribution.records import from_record, to_record
from tether.attribution.vocabulary import ConnectType, Vantage
from tether.protocol.messages.reports import PathRecord
from tether.server.connlog import activity as contents, correlate as circumstances, incidents
from tether.server.connlog.activity import LATEST_TIME, Tally
from tether.server.connlog.incidents import Grouped
from tether.server.connlog.judge import (
    JudgedEnd,
    Testimony,
    admissible,
    judge_connection,
    of_the_last_carrier,
)
from tether.server.db.tables.connections import ConnectionStatus, connections, evidence, revisions

MAX_FACTS = 64
"""Facts kept of one testimony; a connection's real end has a dozen."""

MAX_FACT_BYTES = 4096
MAX_TESTIMONIES = 16
"""Testimonies kept of one reporter about one connection."""


@dataclass(frozen=True, slots=True)
class RowOpened:
    """A connection came up."""

    row: RowMapping


@dataclass(frozen=True, slots=True)
class RowClosed:
    """A connection was closed, for the first time. `row` is what it says now."""

    row: RowMapping
    judgement: JudgedEnd
    cut: tuple[Tally, ...] = ()
    """What ran over it and ended with it."""
    grouped: Grouped | None = None


@dataclass(frozen=True, slots=True)
class Revised:
    """A closed connection is judged otherwise now."""

    row: RowMapping
    judgement: JudgedEnd
    was: str
    grouped: Grouped | None = None


@dataclass(frozen=True, slots=True)
class PathChanged:
    """Something happened to a tunnel's way; it goes on."""

    row: RowMapping
    what: PathRecord


Event = RowOpened | RowClosed | Revised | PathChanged


async def find(tx: AsyncConnection, connection_id: str) -> RowMapping | None:
    """The row, or None."""
    found = await tx.execute(
        select(connections).where(connections.c.connection_id == connection_id)
    )
    return found.mappings().one_or_none()


async def mark_open(tx: AsyncConnection, connection_id: str, at: float) -> RowOpened | None:
    """Make a pending row ongoing; None if it was not pending."""
    changed = await tx.execute(
        update(connections)
        .where(
            connections.c.connection_id == connection_id,
            connections.c.status == ConnectionStatus.PENDING,
        )
        .values(status=str(ConnectionStatus.ONGOING), connected_at=at)
        .returning(connections)
    )
    row = changed.mappings().one_or_none()
    return None if row is None else RowOpened(row)


async def add_testimony(tx: AsyncConnection, connection_id: str, testimony: Testimony) -> None:
    """Keep what a reporter says about a connection, as far as it may and fits."""
    its = and_(
        evidence.c.connection_id == connection_id,
        evidence.c.reporter == str(testimony.reporter),
    )
    said = await tx.scalar(select(func.count()).select_from(evidence).where(its))
    if (said or 0) >= MAX_TESTIMONIES:
        if testimony.carrier is None:
            return
        # a tunnel may wear out many carriers, and only the last ones tell of its end
        oldest = select(func.min(evidence.c.id)).where(its).scalar_subquery()
        await tx.execute(delete(evidence).where(evidence.c.id == oldest))
    await tx.execute(
        insert(evidence).values(
            connection_id=connection_id,
            reporter=str(testimony.reporter),
            received_at=testimony.received_at,
            facts=_storable(testimony.reporter, testimony.facts),
            symptoms=_storable(testimony.reporter, testimony.symptoms),
            carrier=testimony.carrier,
        )
    )


async def has_testimony_of(tx: AsyncConnection, connection_id: str, carrier: int) -> bool:
    """Whether a relay has told of this carrier's end."""
    found = await tx.scalar(
        select(evidence.c.id).where(
            evidence.c.connection_id == connection_id,
            evidence.c.reporter == str(Vantage.RELAY),
            evidence.c.carrier == carrier,
        )
    )
    return found is not None


async def testimonies(tx: AsyncConnection, connection_id: str) -> list[Testimony]:
    """Everything on file about a connection, in the order in which it came."""
    found = await tx.execute(
        select(evidence).where(evidence.c.connection_id == connection_id).order_by(evidence.c.id)
    )
    return [
        Testimony(
            reporter=Vantage(row["reporter"]),
            received_at=row["received_at"],
            facts=_read(row["facts"]),
            symptoms=_read(row["symptoms"]),
            carrier=row["carrier"],
        )
        for row in found.mappings()
    ]


async def settle(
    tx: AsyncConnection, row: RowMapping, *, ended_at: float, now: float
) -> RowClosed | Revised | None:
    """Judge a connection that is over: close its row, or revise it where that changes its words.

    Args:
        tx: the transaction.
        row: the connection as it is stored now.
        ended_at: when it ended, as far as is known; used only for the first close.
        now: the server's clock.
    """
    connection_id = row["connection_id"]
    kind = ConnectType(row["connect_type"])
    said = of_the_last_carrier(await testimonies(tx, connection_id), row["carrier"])
    judgement = judge_connection(kind, said)
    first = row["status"] != ConnectionStatus.CLOSED
    extra = await circumstances.around(
        tx, row, judgement, ended_at=ended_at if first else None, now=now
    )
    if extra := _new(extra, said):
        await add_testimony(tx, connection_id, Testimony(Vantage.SERVER, now, extra))
        said = of_the_last_carrier(await testimonies(tx, connection_id), row["carrier"])
        judgement = judge_connection(kind, said)
    if not first and not judgement.differs_from(row):
        return None
    revision = row["revision"] + 1
    key = incidents.key_of(row, judgement.verdict.disconnect.cause)
    changes: dict[str, Any] = {**judgement.columns, "revision": revision, "incident_key": key}
    await incidents.leave(tx, row, key, judgement.verdict.disconnect)
    if first:
        connected_at = row["connected_at"] if row["connected_at"] is not None else ended_at
        changes |= {
            "status": str(ConnectionStatus.CLOSED),
            "connected_at": connected_at,
            "disconnected_at": min(max(ended_at, connected_at), max(now, connected_at)),
            "detached_since": None,
        }
    settled = await _change(tx, connection_id, changes)
    await tx.execute(
        insert(revisions).values(
            connection_id=connection_id,
            revision=revision,
            as_of=now,
            rule=judgement.verdict.rule,
            because=judgement.verdict.because,
            fields=judgement.verdict.disconnect.fields(),
        )
    )
    grouped = None if settled["incident_id"] else await incidents.group(tx, settled)
    if grouped is not None:
        found = await find(tx, connection_id)
        assert found is not None, "it was just changed"
        settled = found
    if first:
        cut = await contents.cut(tx, connection_id, settled["disconnected_at"])
        return RowClosed(settled, judgement, tuple(cut), grouped)
    return Revised(settled, judgement, was=row["disconnect_cause"], grouped=grouped)


def _new(facts: tuple[Evidence, ...], said: Iterable[Testimony]) -> tuple[Evidence, ...]:
    """Those of `facts` that are not on file: each time that a row is judged, they are found again."""
    known = [replace(fact, at=0.0) for one in said for fact in one.facts]
    return tuple(fact for fact in facts if replace(fact, at=0.0) not in known)


async def _change(tx: AsyncConnection, connection_id: str, changes: dict[str, Any]) -> RowMapping:
    changed = await tx.execute(
        update(connections)
        .where(connections.c.connection_id == connection_id)
        .values(changes)
        .returning(connections)
    )
    row: RowMapping = changed.mappings().one()
    return row


async def judge_mates(tx: AsyncConnection, row: RowMapping, now: float) -> list[Event]:
    """Judge the machine's other links and tunnels again, now that this agent ended, too."""
    if row["disconnect_cause"] != AGENT_NODE_LOST:
        return []
    events: list[Event] = []
    for mate in await circumstances.mates_to_judge_again(tx, row):
        facts = await circumstances.together(tx, mate, ended_at=mate["disconnected_at"], now=now)
        await add_testimony(tx, mate["connection_id"], Testimony(Vantage.SERVER, now, facts))
        settled = await settle(tx, mate, ended_at=now, now=now)
        events += [settled] if settled else []
    return events


async def agent_returned(
    tx: AsyncConnection, connection_id: str, instance_id: str, boot_id: str, now: float
) -> list[Event]:
    """Judge the agent's last link again, now that it is known who came back, and from where."""
    row = await find(tx, connection_id)
    last = row and await circumstances.unexplained_before(tx, row, now)
    if row is None or last is None:
        return []
    returned = circumstances.returned(last, row, instance_id=instance_id, boot_id=boot_id, now=now)
    await add_testimony(tx, last["connection_id"], Testimony(Vantage.SERVER, now, (returned,)))
    settled = await settle(tx, last, ended_at=now, now=now)
    return [settled] if settled else []


async def client_returned(
    tx: AsyncConnection, connection_id: str, returned: Evidence, now: float
) -> list[Event]:
    """Judge a client's closed link again, now that the same run has dialled anew."""
    row = await find(tx, connection_id)
    if row is None or row["disconnect_cause"] not in circumstances.BY_RETURN:
        return []
    await add_testimony(tx, connection_id, Testimony(Vantage.SERVER, now, (returned,)))
    settled = await settle(tx, row, ended_at=now, now=now)
    return [settled] if settled else []


async def relay_heard_end_at(tx: AsyncConnection, connection_id: str) -> float | None:
    """When a relay saw the tunnel's last carrier end, by the server's own clock."""
    at: float | None = await tx.scalar(
        select(func.max(evidence.c.received_at)).where(
            evidence.c.connection_id == connection_id,
            evidence.c.reporter == str(Vantage.RELAY),
        )
    )
    return at


def _storable(reporter: Vantage, facts: Iterable[Evidence]) -> list[dict[str, Any]]:
    kept = []
    for fact in admissible(reporter, facts):
        record = to_record(fact)
        if 0 <= fact.at <= LATEST_TIME and len(msgspec.json.encode(record)) <= MAX_FACT_BYTES:
            kept.append(record)
    # the first fact of a cell may say how it began, the last one is the cause: keep both ends
    return kept if len(kept) <= MAX_FACTS else kept[: MAX_FACTS // 2] + kept[-MAX_FACTS // 2 :]


def _read(records: list[dict[str, Any]]) -> tuple[Evidence, ...]:
    return tuple(from_record(record) for record in records)
