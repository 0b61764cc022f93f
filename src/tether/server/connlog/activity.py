"""What ran over a connection: its sessions, its forwarded connections, and their file operations.

Law: inside one transaction; what is reported is stored as it is, within bounds, and judged nowhere. A
session or a forwarded connection is counted once: when its end is reported, or when its connection is
closed before that. What is reported later completes the record and is not counted again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from msgspec import structs
from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.attribution.vocabulary import ConnectionType
from tether.protocol.messages import reports as m
from tether.protocol.messages.reports import (
    FileOperation,
    FileOperations,
    ForwardEnd,
    ForwardKind,
    ForwardRecord,
    ForwardRollup,
)
from tether.server.db.fetch import fetch_one
from tether.server.db.tables.activity import (
    ForwardRow,
    SessionRow,
    file_operations,
    forwards,
    sessions,
)
from tether.server.db.tables.connections import ConnectionRow, connections

MAX_BYTES = (1 << 63) - 1
MAX_COUNT = (1 << 31) - 1
MAX_NAME = 64
"""Characters of an id or a name that a reporter chose."""

MAX_TEXT = 256
"""Characters of a destination, an origin or a detail: what the agent's ledger cuts to."""

MAX_PATH = 1024
MAX_FORWARDS = 256
"""Forwarded connections of one connection that are kept one by one; an agent reports 200."""

MAX_ROLLUPS = 64
"""Roll-ups (by kind and destination) of one connection; what exceeds them is counted under "*"."""

MAX_AUDITS = 256
"""Sessions of one connection whose file operations are kept."""

MAX_OPERATIONS = 512
OTHERS = "*"
LATEST_TIME = 253_402_300_799.0
"""9999-12-31: what lies beyond cannot be printed, and is nobody's clock."""

_SPECIFIC: Mapping[ConnectionType, int] = {
    ConnectionType.TUNNEL: 0,
    ConnectionType.PORT_FORWARD: 1,
    ConnectionType.SSH: 2,
    ConnectionType.SFTP: 2,
    ConnectionType.RECONNECTING_PTY: 2,
    ConnectionType.VSCODE: 3,
    ConnectionType.JETBRAINS: 3,
}
"""How much a type says of what a connection is for; only a more specific type replaces what is there."""

_CARRIED = (
    ForwardKind.DIRECT_TCPIP,
    ForwardKind.DIRECT_STREAMLOCAL,
    ForwardKind.FORWARDED_TCPIP,
    ForwardKind.FORWARDED_STREAMLOCAL,
)
_NEVER_BEGAN = (ForwardEnd.REFUSED, ForwardEnd.BLOCKED, ForwardEnd.FAILED)


@dataclass(frozen=True, slots=True)
class SessionsEnded:
    """Sessions to count."""

    app: str
    family: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class ForwardsEnded:
    """Forwarded connections to count."""

    kind: str
    end: str
    count: int = 1


Tally = SessionsEnded | ForwardsEnded

_NO_ROLLUP = ForwardRow(
    id=0,
    connection_id="",
    forward_id=None,
    kind="",
    destination="",
    started_at=0.0,
    ended_at=None,
    started=0,
    ends={},
)
"""What a window's counts are added to where there is nothing yet."""


async def keep_session(
    tx: AsyncConnection, row: ConnectionRow, item: m.SessionRecord
) -> list[Tally] | None:
    """Keep a session's start or end; None if it makes no sense."""
    given = (item.started_at, item.ended_at, item.process_ended_at)
    times = [at for at in given if at is not None]
    names = (item.session_id, item.session_type, item.subsystem, item.exit_signal or "", item.app)
    code = item.exit_code
    if (
        not are_times(*times)
        or any(len(name) > MAX_NAME for name in names)
        or not item.session_id
        or (code is not None and not -(1 << 31) <= code < 1 << 32)
    ):
        return None
    session_type = known_type(item.session_type, ConnectionType.SSH)
    before = await _find_session(tx, item.connection_id, item.session_id)
    kept = insert(sessions).values(
        session_id=item.session_id,
        connection_id=item.connection_id,
        session_type=session_type,
        app=item.app,
        pty=item.pty,
        subsystem=item.subsystem,
        started_at=item.started_at,
        ended_at=item.ended_at,
        process_ended_at=item.process_ended_at,
        exit_code=code,
        exit_signal=item.exit_signal,
    )
    new = kept.excluded
    await tx.execute(
        kept.on_conflict_do_update(
            index_elements=["connection_id", "session_id"],
            set_={  # what a session is for may be found out while it runs
                "session_type": new.session_type,
                "app": func.coalesce(func.nullif(new.app, ""), sessions.c.app),
                "ended_at": func.coalesce(new.ended_at, sessions.c.ended_at),
                "process_ended_at": func.coalesce(
                    new.process_ended_at, sessions.c.process_ended_at
                ),
                "exit_code": func.coalesce(new.exit_code, sessions.c.exit_code),
                "exit_signal": func.coalesce(new.exit_signal, sessions.c.exit_signal),
            },
        )
    )
    await _refine(tx, row, session_type, item.app)
    over_before = before is not None and before.ended_at is not None
    if item.ended_at is None or over_before or row.is_closed:
        return []
    app = item.app or (before.app if before is not None else "")
    return [SessionsEnded(app, session_type)]


async def keep_forward(
    tx: AsyncConnection, row: ConnectionRow, item: ForwardRecord
) -> list[Tally] | None:
    """Keep a forwarded connection's start or end; None if it makes no sense or is one too many."""
    times = [at for at in (item.started_at, item.ended_at) if at is not None]
    names = (item.kind, item.end, item.cause)
    if (
        not are_times(*times, abs(item.duration_s))
        or any(len(name) > MAX_NAME for name in names)
        or not 0 <= item.forward_id <= MAX_COUNT
    ):
        return None
    if item.ended_at is None and row.disconnected_at is not None:
        item = structs.replace(
            item,
            ended_at=max(row.disconnected_at, item.started_at),
            end=str(ForwardEnd.CONNECTION_ENDED),
        )
    over = item.ended_at is not None
    mine = forwards.c.connection_id == item.connection_id
    before = await _find_forward(tx, item.connection_id, item.forward_id)
    if (
        before is None
        and await _count(tx, mine, forwards.c.forward_id.is_not(None)) >= MAX_FORWARDS
    ):
        return None
    kept = insert(forwards).values(
        connection_id=item.connection_id,
        forward_id=item.forward_id,
        kind=item.kind,
        destination=item.destination[:MAX_TEXT],
        origin=item.origin[:MAX_TEXT],
        started_at=item.started_at,
        ended_at=item.ended_at,
        duration_s=max(item.duration_s, 0.0),
        started=1,
        ended=int(over),
        ends={item.end: 1} if over else {},
        cause=item.cause,
        detail=item.detail[:MAX_TEXT],
        rx_bytes=bounded(item.rx_bytes),
        tx_bytes=bounded(item.tx_bytes),
    )
    changed = ("ended_at", "duration_s", "ended", "ends", "cause", "detail", "rx_bytes", "tx_bytes")
    await tx.execute(
        kept.on_conflict_do_update(
            index_elements=["connection_id", "forward_id"],
            set_={name: kept.excluded[name] for name in changed},
        )
        if over
        else kept.on_conflict_do_nothing()
    )
    if item.kind in _CARRIED and item.end not in _NEVER_BEGAN:
        await _refine(tx, row, ConnectionType.PORT_FORWARD, "")
    counted = before is not None and before.ended_at is not None
    return [ForwardsEnded(item.kind, item.end)] if over and not counted else []


async def keep_rollup(
    tx: AsyncConnection, row: ConnectionRow, item: ForwardRollup
) -> list[Tally] | None:
    """Add a window's counts to those of its kind and destination; None if it makes no sense."""
    if not are_times(item.since, item.until, abs(item.longest_s)) or len(item.kind) > MAX_NAME:
        return None
    destination = item.destination[:MAX_TEXT]
    mine = forwards.c.connection_id == item.connection_id
    before = await _find_rollup(tx, item.connection_id, item.kind, destination)
    if before is None and await _count(tx, mine, forwards.c.forward_id.is_(None)) >= MAX_ROLLUPS:
        destination = OTHERS
        before = await _find_rollup(tx, item.connection_id, item.kind, OTHERS)
        if before is None and item.kind not in ForwardKind._value2member_map_:
            return None  # a kind of its own for each destination would have no bound
    ends: Counter[str] = Counter()
    for end, count in item.ends.items():  # an end of a newer agent is counted as failed
        known = end in ForwardEnd._value2member_map_
        ends[end if known else str(ForwardEnd.FAILED)] += bounded(count, MAX_COUNT)
    had = before or _NO_ROLLUP
    values = {
        "ended_at": max(item.until, had.ended_at or item.until),
        "duration_s": max(item.longest_s, had.duration_s),
        "started": _sum(item.started, had.started, MAX_COUNT),
        "ended": _sum(item.ended, had.ended, MAX_COUNT),
        "ends": dict(ends + Counter(had.ends)),
        "rx_bytes": _sum(item.rx_bytes, had.rx_bytes, MAX_BYTES),
        "tx_bytes": _sum(item.tx_bytes, had.tx_bytes, MAX_BYTES),
    }
    if before is not None:
        await tx.execute(update(forwards).where(forwards.c.id == before.id).values(values))
    else:
        await tx.execute(
            insert(forwards).values(
                connection_id=item.connection_id,
                kind=item.kind,
                destination=destination,
                started_at=item.since,
                **values,
            )
        )
    return [ForwardsEnded(item.kind, end, count) for end, count in ends.items() if count]


async def keep_files(tx: AsyncConnection, item: FileOperations, now: float) -> list[Tally] | None:
    """Keep what a session did to files; None if it makes no sense or is one too many."""
    names = (item.session_id, item.program, *(one.act for one in item.operations))
    if (
        not item.session_id
        or any(len(name) > MAX_NAME for name in names)
        or not are_times(*(one.first_at for one in item.operations))
        or await _count(tx, file_operations.c.connection_id == item.connection_id) >= MAX_AUDITS
    ):
        return None
    beyond = sum(bounded(one.count) for one in item.operations[MAX_OPERATIONS:])
    kept = insert(file_operations).values(
        connection_id=item.connection_id,
        session_id=item.session_id,
        program=item.program,
        operations=[_operation(one) for one in item.operations[:MAX_OPERATIONS]],
        left_out=_sum(item.left_out, beyond, MAX_COUNT),
        complete=item.complete,
        received_at=now,
    )
    changed = ("program", "operations", "left_out", "complete", "received_at")
    await tx.execute(
        kept.on_conflict_do_update(
            index_elements=["connection_id", "session_id"],
            set_={name: kept.excluded[name] for name in changed},
        )
    )
    return []


async def end_open(tx: AsyncConnection, connection_id: str, at: float) -> list[Tally]:
    """End what was still open on a connection that is closed.

    Returns:
        What to count.
    """
    open_forwards = (forwards.c.connection_id == connection_id, forwards.c.ended_at.is_(None))
    open_sessions = (sessions.c.connection_id == connection_id, sessions.c.ended_at.is_(None))
    kinds = await tx.execute(
        select(forwards.c.kind, func.count()).where(*open_forwards).group_by(forwards.c.kind)
    )
    apps = await tx.execute(
        select(sessions.c.app, sessions.c.session_type, func.count())
        .where(*open_sessions)
        .group_by(sessions.c.app, sessions.c.session_type)
    )
    end = str(ForwardEnd.CONNECTION_ENDED)
    left: list[Tally] = [ForwardsEnded(kind, end, count) for kind, count in kinds]
    left += [SessionsEnded(app, family, count) for app, family, count in apps]
    await tx.execute(
        update(forwards)
        .where(*open_forwards)
        .values(ended_at=func.max(forwards.c.started_at, at), ended=1, ends={end: 1})
    )
    return left


def are_times(*times: float) -> bool:
    """Whether these are times (unix seconds), not only numbers."""
    return all(0 <= at <= LATEST_TIME for at in times)


def known_type(name: str, otherwise: ConnectionType) -> ConnectionType:
    """The connection type of this name; one that only a newer agent knows is `otherwise`."""
    known = name in ConnectionType._value2member_map_
    return ConnectionType(name) if known else otherwise


def bounded(number: int, most: int = MAX_BYTES) -> int:
    """`number` as a column can hold it."""
    return min(max(number, 0), most)


async def _refine(tx: AsyncConnection, row: ConnectionRow, found: ConnectionType, app: str) -> None:
    """What runs over a connection gives it its type, unless it has a more specific one."""
    mine = connections.c.connection_id == row.connection_id
    known = ConnectionType((await tx.execute(select(connections.c.type).where(mine))).scalar_one())
    if _SPECIFIC.get(found, 0) > _SPECIFIC.get(known, MAX_COUNT):
        await tx.execute(update(connections).where(mine).values(type=found, app=app))
    elif found is known and app:  # named later than it was recognised
        await tx.execute(update(connections).where(mine, connections.c.app == "").values(app=app))


def _operation(one: FileOperation) -> dict[str, Any]:
    return {
        "act": one.act,
        "path": one.path[:MAX_PATH],
        "target": one.target[:MAX_PATH],
        "first_at": one.first_at,
        "count": bounded(one.count, MAX_COUNT),
    }


def _sum(one: int, other: int, most: int) -> int:
    return min(bounded(one, most) + other, most)


async def _find_session(
    tx: AsyncConnection, connection_id: str, session_id: str
) -> SessionRow | None:
    query = select(sessions).where(
        sessions.c.connection_id == connection_id, sessions.c.session_id == session_id
    )
    return await fetch_one(tx, query, SessionRow)


async def _find_forward(
    tx: AsyncConnection, connection_id: str, forward_id: int
) -> ForwardRow | None:
    query = select(forwards).where(
        forwards.c.connection_id == connection_id, forwards.c.forward_id == forward_id
    )
    return await fetch_one(tx, query, ForwardRow)


async def _find_rollup(
    tx: AsyncConnection, connection_id: str, kind: str, destination: str
) -> ForwardRow | None:
    query = select(forwards).where(
        forwards.c.connection_id == connection_id,
        forwards.c.forward_id.is_(None),
        forwards.c.kind == kind,
        forwards.c.destination == destination,
    )
    return await fetch_one(tx, query, ForwardRow)


async def _count(tx: AsyncConnection, *where: ColumnElement[bool]) -> int:
    return await tx.scalar(select(func.count()).where(*where)) or 0
