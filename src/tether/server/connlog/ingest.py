"""Reports of agents and clients, applied exactly once, inside one transaction.

Law: an item counts if its number lies behind the journal's cursor and its connection belongs to whoever
reports it; anything else is refused, counted, and acknowledged all the same, so that a bad item never
stops a journal. Only an agent's `Ended` closes a tunnel; rows of control links are closed by the server
alone.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from sqlalchemy import select, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.attribution import evidence as ev
from tether.attribution.causes.codes import CLIENT_CLOSED, CLIENT_UNREACHABLE
from tether.attribution.classify import classify
from tether.attribution.predicates.sessions import gave_up
from tether.attribution.vocabulary import ConnectType, Party, Vantage
from tether.log import get_logger
from tether.protocol.messages import reports as m
from tether.protocol.messages.base import Garbage, facts_of
from tether.protocol.messages.reports import (
    FileOperations,
    ForwardRecord,
    ForwardRollup,
    IdeSessionRecord,
    LifecycleRecord,
    PathRecord,
)
from tether.server.connlog import activity, agent_states, ide_rows, path_rows, rows
from tether.server.connlog.activity import MAX_NAME, Tally
from tether.server.connlog.judge import Testimony
from tether.server.connlog.records import find, find_tunnel
from tether.server.connlog.testimonies import (
    add_testimony,
    last_carriers_end,
    testimonies_about,
)
from tether.server.db.tables.connections import (
    ConnectionRow,
    connections,
    evidence,
)
from tether.server.db.tables.server_runs import report_cursors
from tether.server.metrics import ReportOutcome

_UNSTORABLE = (IntegrityError, DataError, ValueError, TypeError, OverflowError)
"""What SQLite and the codecs raise about values, never about disks and locks."""

_log = get_logger("reports")

MAX_SEQ = (1 << 53) - 1

AT_ONCE = 500
"""So many ids one query asks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reporter:
    """Who reports, over which link. `since` is when the server took its `Hello`, by its own clock."""

    vantage: Vantage
    since: float
    workspace_id: str = ""
    user: str = ""

    @property
    def key(self) -> str:
        """Whose cursor it is: nobody moves another's by naming another's journal."""
        return self.workspace_id if self.vantage is Vantage.AGENT else f"user:{self.user}"

    def owns(self, row: ConnectionRow) -> bool:
        """Whether `row` is this reporter's to testify about."""
        if self.vantage is Vantage.AGENT:
            tunnel_or_own_link = (ConnectType.AGENT_TO_CLIENT, ConnectType.SERVER_TO_AGENT)
            return row.workspace_id == self.workspace_id and row.connect_type in tunnel_or_own_link
        return row.user == self.user and row.connect_type is not ConnectType.SERVER_TO_AGENT


@dataclass(slots=True)
class Applied:
    """What a report did. `acked` is the last number that needs not be sent again."""

    acked: int
    events: list[rows.Event] = field(default_factory=list)
    tallies: list[Tally] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    repeated: int = 0
    applied: int = 0
    not_kept: set[str] = field(default_factory=set)
    """Kinds of items that this version has no table for."""

    def outcomes(self) -> dict[ReportOutcome, int]:
        """What became of the items."""
        return {
            ReportOutcome.APPLIED: self.applied,
            ReportOutcome.REPEATED: self.repeated,
            ReportOutcome.REFUSED: len(self.refused),
        }


async def apply(tx: AsyncConnection, reporter: Reporter, report: m.Report, now: float) -> Applied:
    """Apply what is new of `report`; the caller commits, then acknowledges `acked`.

    Raises:
        Garbage: the numbers of the report make no sense.
    """
    last = report.first_seq + len(report.items) - 1
    if not (report.first_seq >= 1 and last <= MAX_SEQ and 0 < len(report.journal_id) <= MAX_NAME):
        raise Garbage("a report without a sensible journal or number")
    cursor = await tx.scalar(
        select(report_cursors.c.seq).where(
            report_cursors.c.journal_id == report.journal_id,
            report_cursors.c.reporter == reporter.key,
        )
    )
    applied = Applied(acked=max(last, cursor or 0))
    for seq, item in enumerate(report.items, start=report.first_seq):
        if seq <= (cursor or 0):
            applied.repeated += 1
        elif await _try_item(tx, reporter, item, now, applied):
            applied.applied += 1
        else:
            applied.refused.append(item.connection_id[:MAX_NAME])
    if last > (cursor or 0):
        moved = insert(report_cursors).values(
            journal_id=report.journal_id, reporter=reporter.key, seq=last, updated_at=now
        )
        await tx.execute(
            moved.on_conflict_do_update(
                index_elements=["journal_id", "reporter"],
                set_={"seq": last, "updated_at": now},
            )
        )
    return applied


def parts_of(report: m.Report, size: int) -> Iterator[m.Report]:
    """The report in parts of at most `size` items, in order; one that is empty is one part."""
    for begin in range(0, max(1, len(report.items)), size):
        yield m.Report(
            journal_id=report.journal_id,
            first_seq=report.first_seq + begin,
            items=report.items[begin : begin + size],
        )


async def _try_item(
    tx: AsyncConnection, reporter: Reporter, item: m.ReportItem, now: float, applied: Applied
) -> bool:
    """Apply one item, or leave no trace of it where its values cannot be stored."""
    events, tallies = len(applied.events), len(applied.tallies)
    try:
        async with tx.begin_nested():
            return await _apply_item(tx, reporter, item, now, applied)
    except _UNSTORABLE:
        _log.exception(
            "a report item cannot be stored", connection_id=item.connection_id[:MAX_NAME]
        )
        del applied.events[events:], applied.tallies[tallies:]
        return False


async def _apply_item(
    tx: AsyncConnection, reporter: Reporter, item: m.ReportItem, now: float, applied: Applied
) -> bool:
    """Apply one item; False if it is not the reporter's to report, or makes no sense."""
    if isinstance(item, LifecycleRecord):  # of the agent itself, and of no connection
        mine = reporter.vantage is Vantage.AGENT
        return mine and await agent_states.keep(tx, reporter.workspace_id, item, now)
    row = await find(tx, item.connection_id)
    if row is None or not reporter.owns(row):
        return False
    by_agent_of_tunnel = (
        reporter.vantage is Vantage.AGENT and row.connect_type is ConnectType.AGENT_TO_CLIENT
    )
    if isinstance(item, m.Ended):
        await _apply_end(tx, reporter, row, item, now, applied, closes=by_agent_of_tunnel)
        return True
    if not by_agent_of_tunnel or row.parent_id is not None:  # nothing runs over an IDE session
        return False
    match item:
        case m.Opened():
            opened = await rows.mark_open(tx, item.connection_id, now)
            applied.events += [opened] if opened else []
        case IdeSessionRecord():
            events = await ide_rows.keep(tx, row, item, since=reporter.since, now=now)
            applied.events += events or []
            return events is not None
        case PathRecord():
            if not await path_rows.keep(tx, row, item, since=reporter.since, now=now):
                return False
            applied.events.append(rows.PathChanged(row, item))
        case m.UnknownItem():  # there is no place for it (yet)
            applied.not_kept.add(type(item).__name__)
        case _:
            tallies = await _keep_activity(tx, row, item, now)
            applied.tallies += tallies or []
            return tallies is not None
    return True


async def _keep_activity(
    tx: AsyncConnection,
    row: ConnectionRow,
    item: m.SessionRecord | ForwardRecord | ForwardRollup | FileOperations,
    now: float,
) -> list[Tally] | None:
    match item:
        case m.SessionRecord():
            return await activity.keep_session(tx, row, item)
        case ForwardRecord():
            return await activity.keep_forward(tx, row, item)
        case ForwardRollup():
            return await activity.keep_rollup(tx, row, item)
        case FileOperations():
            return await activity.keep_files(tx, item, now)


async def _apply_end(
    tx: AsyncConnection,
    reporter: Reporter,
    row: ConnectionRow,
    item: m.Ended,
    now: float,
    applied: Applied,
    *,
    closes: bool,
) -> None:
    """Put an end on file; close or revise its row where the reporter may (`closes`)."""
    testimony = Testimony(
        reporter=reporter.vantage,
        received_at=now,
        facts=tuple(facts_of(item.facts)),
        symptoms=tuple(facts_of(item.symptoms)),
    ).by_standing(row.created_at)
    await add_testimony(tx, item.connection_id, testimony)
    closed = row.is_closed
    if not closes and not closed:
        if row.connect_type is ConnectType.AGENT_TO_CLIENT:
            applied.events += _news_of_client(row, testimony)
        return
    if closes and (item.rx_bytes or item.tx_bytes):
        await tx.execute(
            update(connections)
            .where(connections.c.connection_id == item.connection_id)
            .values(
                rx_bytes=activity.bounded(item.rx_bytes), tx_bytes=activity.bounded(item.tx_bytes)
            )
        )
    ended_at = now if closed else await _ended_at(tx, reporter, item, now)
    applied.events += await rows.settle(tx, row, ended_at=ended_at, now=now)
    if closes and any(isinstance(fact, ev.PreviousRunDied) for fact in testimony.facts):
        applied.events += await ide_rows.close_orphans(tx, now=now, of=row)


async def _ended_at(tx: AsyncConnection, reporter: Reporter, item: m.Ended, now: float) -> float:
    """A live report ends now; one from the journal ended when a relay saw it, or when the item says."""
    if not math.isfinite(item.at) or item.at >= reporter.since:
        return now
    seen_at = await last_carriers_end(tx, item.connection_id)
    return item.at if seen_at is None else seen_at


# -- clients that left for good ---------------------------------------------------------------------


def _news_of_client(row: ConnectionRow, testimony: Testimony) -> list[rows.Event]:
    """What a client's report of an end says of its tunnel, whose agent has not reported one.

    Nobody comes back to it where somebody said goodbye on it, its program closed its side, or its
    post-mortem is here. Its agent may be cut off, and not know. Where the client saw the agent's own
    stream end, it is the agent that may not come back.
    """
    if testimony.reporter is not Vantage.CLIENT:
        return []
    died = any(isinstance(fact, ev.PreviousRunDied) for fact in testimony.facts)
    if died or any(
        isinstance(fact, ev.LocalSideClosed)
        or (isinstance(fact, ev.GoodbyeSaid) and fact.by in (Party.CLIENT, Party.AGENT))
        for fact in testimony.facts
    ):
        return [rows.ClientLeft(row, died=died)]
    if any(
        isinstance(fact, ev.StreamEnded) and fact.peer is Party.AGENT for fact in testimony.facts
    ):
        return [rows.ClientLostAgent(row)]
    return []


def _cause_of_leaving(testimony: Testimony) -> str:
    """The cause with which a client reports that it left for good; "" where it reports no such thing."""
    if testimony.reporter is not Vantage.CLIENT:
        return ""
    for fact in testimony.facts:
        if isinstance(fact, ev.GoodbyeSaid) and fact.by is Party.CLIENT:
            return fact.cause or CLIENT_CLOSED  # it left, and gave no cause
        if isinstance(fact, ev.LocalSideClosed):
            return CLIENT_UNREACHABLE if gave_up(fact) else CLIENT_CLOSED
        if isinstance(fact, ev.PreviousRunDied):
            return classify(ConnectType.AGENT_TO_CLIENT, testimony.facts).disconnect.cause
    return ""


async def left_by_clients(
    tx: AsyncConnection, connection_ids: Collection[str]
) -> list[tuple[ConnectionRow, str]]:
    """Those of these tunnels that their clients have left for good, and the causes that they gave."""
    left = []
    for connection_id in await _reported_by_clients(tx, list(connection_ids)):
        row = await find_tunnel(tx, connection_id)
        if row is None:
            continue
        causes = map(_cause_of_leaving, await testimonies_about(tx, row))
        if cause := next(filter(None, causes), ""):
            left.append((row, cause))
    return left


async def _reported_by_clients(tx: AsyncConnection, connection_ids: list[str]) -> list[str]:
    reported: list[str] = []
    for begin in range(0, len(connection_ids), AT_ONCE):
        some = connection_ids[begin : begin + AT_ONCE]
        found = await tx.execute(
            select(evidence.c.connection_id)
            .where(evidence.c.connection_id.in_(some), evidence.c.reporter == Vantage.CLIENT)
            .distinct()
        )
        reported += found.scalars()
    return reported
