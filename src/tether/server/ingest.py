"""Reports of agents and clients, applied exactly once, inside one transaction.

Law: an item counts if its number lies behind the journal's cursor and its connection belongs to whoever
reports it; anything else is refused, counted, and acknowledged all the same, so that a bad item never
stops a journal. Only an agent's `Ended` closes a tunnel; control rows are closed by the server alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from sqlalchemy import RowMapping, func, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.attribution.vocabulary import ConnectionType, ConnectType, Vantage
from tether.log import get_logger
from tether.protocol import messages as m
from tether.protocol.link import facts_of
from tether.server import rows
from tether.server.judge import Testimony
from tether.server.metrics import ReportOutcome
from tether.server.schema import ConnectionStatus, connections, report_cursors, sessions

_UNSTORABLE = (IntegrityError, DataError, ValueError, TypeError, OverflowError)
"""What SQLite and the codecs raise about values, never about disks and locks."""

_log = get_logger("reports")

MAX_SEQ = (1 << 53) - 1
MAX_BYTES = (1 << 63) - 1
MAX_WORD = 64
"""Characters of an id or a word that a reporter chose."""


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

    def owns(self, row: RowMapping) -> bool:
        """Whether `row` is this reporter's to testify about."""
        if self.vantage is Vantage.AGENT:
            tunnel_or_own_link = (ConnectType.AGENT_TO_CLIENT, ConnectType.SERVER_TO_AGENT)
            mine: bool = row["workspace_id"] == self.workspace_id
            return mine and row["connect_type"] in tunnel_or_own_link
        mine = row["user"] == self.user
        return mine and row["connect_type"] != ConnectType.SERVER_TO_AGENT


@dataclass(slots=True)
class Applied:
    """What a report did. `acked` is the last number that needs not be sent again."""

    acked: int
    events: list[rows.Event] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    repeated: int = 0
    applied: int = 0

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
    if not (report.first_seq >= 1 and last <= MAX_SEQ and 0 < len(report.journal_id) <= MAX_WORD):
        raise m.Garbage("a report without a sensible journal or number")
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
            applied.refused.append(item.connection_id[:MAX_WORD])
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


async def _try_item(
    tx: AsyncConnection, reporter: Reporter, item: m.ReportItem, now: float, applied: Applied
) -> bool:
    """Apply one item, or leave no trace of it where its values cannot be stored."""
    events = len(applied.events)
    try:
        async with tx.begin_nested():
            return await _apply_item(tx, reporter, item, now, applied)
    except _UNSTORABLE:
        _log.exception(
            "a report item cannot be stored", connection_id=item.connection_id[:MAX_WORD]
        )
        del applied.events[events:]
        return False


async def _apply_item(
    tx: AsyncConnection, reporter: Reporter, item: m.ReportItem, now: float, applied: Applied
) -> bool:
    """Apply one item; False if it is not the reporter's to report, or makes no sense."""
    row = await rows.find(tx, item.connection_id)
    if row is None or not reporter.owns(row):
        return False
    agent_of_tunnel = (
        reporter.vantage is Vantage.AGENT and row["connect_type"] == ConnectType.AGENT_TO_CLIENT
    )
    if isinstance(item, m.Ended):
        await _ended(tx, reporter, row, item, now, applied, closes=agent_of_tunnel)
        return True
    if not agent_of_tunnel:
        return False
    if isinstance(item, m.Opened):
        opened = await rows.mark_open(tx, item.connection_id, now)
        applied.events += [opened] if opened else []
        return True
    return await _session(tx, row, item)


async def _ended(
    tx: AsyncConnection,
    reporter: Reporter,
    row: RowMapping,
    item: m.Ended,
    now: float,
    applied: Applied,
    *,
    closes: bool,
) -> None:
    testimony = Testimony(
        reporter=reporter.vantage,
        received_at=now,
        facts=tuple(facts_of(item.facts)),
        symptoms=tuple(facts_of(item.symptoms)),
    )
    await rows.add_testimony(tx, item.connection_id, testimony)
    closed = row["status"] == ConnectionStatus.CLOSED
    if not closes and not closed:
        return
    if closes and (item.rx_bytes or item.tx_bytes):
        await tx.execute(
            update(connections)
            .where(connections.c.connection_id == item.connection_id)
            .values(rx_bytes=_count(item.rx_bytes), tx_bytes=_count(item.tx_bytes))
        )
    ended_at = now if closed else await _ended_at(tx, reporter, item, now)
    settled = await rows.settle(tx, row, ended_at=ended_at, now=now)
    if settled is not None:
        applied.events.append(settled)


async def _ended_at(tx: AsyncConnection, reporter: Reporter, item: m.Ended, now: float) -> float:
    """A live report ends now. One from the journal ended when our relay saw it, or when it says."""
    if not math.isfinite(item.at) or item.at >= reporter.since:
        return now
    heard = await rows.relay_heard_end_at(tx, item.connection_id)
    return item.at if heard is None else heard


async def _session(tx: AsyncConnection, row: RowMapping, item: m.SessionRecord) -> bool:
    """Keep a session's start or end; False if it makes no sense."""
    times = [at for at in (item.started_at, item.ended_at) if at is not None]
    words = (item.session_id, item.session_type, item.subsystem, item.exit_signal or "")
    code = item.exit_code
    if (
        not all(math.isfinite(at) for at in times)
        or any(len(word) > MAX_WORD for word in words)
        or not item.session_id
        or (code is not None and not -(1 << 31) <= code < 1 << 32)
    ):
        return False
    known = item.session_type in ConnectionType._value2member_map_
    session_type = item.session_type if known else str(ConnectionType.SSH)
    kept = insert(sessions).values(
        session_id=item.session_id,
        connection_id=item.connection_id,
        session_type=session_type,
        pty=item.pty,
        subsystem=item.subsystem,
        started_at=item.started_at,
        ended_at=item.ended_at,
        exit_code=code,
        exit_signal=item.exit_signal,
    )
    new = kept.excluded
    await tx.execute(
        kept.on_conflict_do_update(
            index_elements=["connection_id", "session_id"],
            set_={
                "ended_at": func.coalesce(new.ended_at, sessions.c.ended_at),
                "exit_code": func.coalesce(new.exit_code, sessions.c.exit_code),
                "exit_signal": func.coalesce(new.exit_signal, sessions.c.exit_signal),
            },
        )
    )
    if row["type"] == ConnectionType.TUNNEL:
        await tx.execute(
            update(connections)
            .where(connections.c.connection_id == item.connection_id)
            .values(type=session_type)
        )
    return True


def _count(number: int) -> int:
    return min(max(number, 0), MAX_BYTES)
