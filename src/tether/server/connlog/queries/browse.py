"""Reading the connection log: the list, one connection explained, and a word about an agent's end.

Law: reads only, and shows a viewer what is theirs to see: an administrator everything, others the
connections of their own workspaces and their own connections. Rows become the API's plain data here.
"""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import (
    ColumnElement,
    RowMapping,
    func,
    literal,
    or_,
    select,
    true,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.attribution.disconnect import Disconnect
from tether.attribution.evidence import Evidence
from tether.attribution.explain import Explanation, explain
from tether.attribution.records import to_record
from tether.attribution.vocabulary import Basis, ConnectType
from tether.server.api.ports import MAX_LIMIT, ConnectionFilter
from tether.server.connlog import agent_states, path_rows, rows
from tether.server.connlog.judge import Testimony, of_the_last_carrier
from tether.server.connlog.queries import contents
from tether.server.db.tables.connections import ConnectionStatus, connections, revisions
from tether.server.db.tables.workspaces import workspaces
from tether.server.errors import Ambiguous, NotFound
from tether.server.identity import Identity
from tether.server.times import iso, iso_or_none

EXPLAINED = 100
"""Forwarded connections, and file operations, that an explanation lists."""

FEW = 2000
"""Rows that are read and sorted faster than an index is searched for those that ended lately."""

NEWEST_FIRST = (connections.c.created_at.desc(), connections.c.seq.desc())
"""The order of lists; an index of each filter has it."""

MAIN_AGENT = "main"
"""A workspace has one agent; the name leaves room for more."""

_ID = re.compile(r"[0-9a-f]{1,32}")
_STILL_OPEN = Explanation(
    "Still connected", "The connection is open: there is no disconnect to explain.", ""
)
_DETACHED = Explanation(
    "Detached",
    "No way between the client and the agent works now; the connection waits and goes on when one does.",
    "",
)
_NOT_YET_OPEN = Explanation(
    "Not connected yet", "The connection was granted, and its two ends have not met yet.", ""
)

_AS_STORED = (
    "connection_id",
    "parent_id",
    "status",
    "connect_type",
    "type",
    "app",
    "workspace_id",
    "workspace",
    "user",
    "client_ip",
    "connection_method",
    "client_session_id",
    "rx_bytes",
    "tx_bytes",
    "disconnect_reason",
    "disconnect_expected",
    "disconnect_initiator",
    "disconnect_detail",
    "disconnect_cause",
    "disconnect_basis",
    "disconnect_actor",
    "coarse_reason",
    "exit_code",
    "exit_signal",
    "rule",
    "confidence",
    "proximate_cause",
    "root_event_id",
    "incident_id",
    "revision",
)


async def listing(
    tx: AsyncConnection, filters: ConnectionFilter, viewer: Identity, now: float
) -> list[dict[str, Any]]:
    """Rows that match, newest first."""
    limit = min(max(filters.limit, 0), MAX_LIMIT)
    few = filters.since is not None and await _few_since(tx, filters.since)
    where = [visible_to(viewer), *matching(filters, by_index=not few)]
    if few:
        c = connections.c
        lately = union_all(
            select(c.seq).where(c.disconnected_at >= filters.since),
            select(c.seq).where(c.status != str(ConnectionStatus.CLOSED)),
        )
        where.append(c.seq.in_(lately))
    found = await tx.execute(select(connections).where(*where).order_by(*NEWEST_FIRST).limit(limit))
    return [plain(row, now) for row in found.mappings()]


async def _few_since(tx: AsyncConnection, since: float) -> bool:
    """Whether so few have ended since then that they are read rather than all that match else."""
    ended = select(literal(1)).where(connections.c.disconnected_at >= since).limit(FEW + 1)
    return (await tx.scalar(select(func.count()).select_from(ended.subquery())) or 0) <= FEW


async def explained(
    tx: AsyncConnection, prefix: str, viewer: Identity, now: float
) -> dict[str, Any]:
    """One connection with everything on file about it.

    Raises:
        NotFound, Ambiguous: the prefix names none, or several, that the viewer may see.
    """
    row = await _the_one(tx, prefix.strip().lower(), viewer)
    connection_id = row["connection_id"]
    words = _words(row)
    history = (
        await tx.execute(
            select(revisions)
            .where(revisions.c.connection_id == connection_id)
            .order_by(revisions.c.revision)
        )
    ).mappings()
    versions = [
        {
            **one["fields"],
            "revision": one["revision"],
            "at": iso(one["as_of"]),
            "as_of": iso(one["as_of"]),
            "rule": one["rule"],
            "because": one["because"],
        }
        for one in history
    ]
    said = await rows.testimonies(tx, connection_id)
    counts = {id(fact) for one in of_the_last_carrier(said, row["carrier"]) for fact in one.facts}
    forwarded, listed = await contents.forwards_of(tx, connection_id, EXPLAINED)
    explains = await _explains(tx, row)
    return {
        **plain(row, now),
        "title": words.title,
        "sentence": words.sentence,
        "advice": words.advice,
        "because": versions[-1]["because"] if versions else "",
        "evidence": [
            _fact(one, fact, outlived=id(fact) not in counts) for one in said for fact in one.facts
        ],
        "symptoms": [
            *(_fact(one, fact) for one in said for fact in one.symptoms),
            *map(_as_symptom, explains),
        ],
        "explains": explains,
        "agent_states": await agent_states.history(tx, row["workspace_id"], row["agent_instance"]),
        "sessions": await contents.sessions_of(tx, connection_id),
        "revisions": versions,
        "children": await contents.children_of(tx, connection_id),
        "ide": await contents.ide_of(tx, connection_id),
        "forwards": listed,
        "forwards_total": forwarded,
        "file_operations": await contents.files_of(tx, connection_id, EXPLAINED),
        "path_events": await path_rows.history(tx, connection_id),
        "path_events_total": row["path_events_total"],
    }


async def forwards(
    tx: AsyncConnection, prefix: str, viewer: Identity, limit: int
) -> list[dict[str, Any]]:
    """The forwarded connections of one connection; raises as `explained`."""
    row = await _the_one(tx, prefix.strip().lower(), viewer)
    return (await contents.forwards_of(tx, row["connection_id"], limit))[1]


async def files(
    tx: AsyncConnection, prefix: str, viewer: Identity, limit: int
) -> list[dict[str, Any]]:
    """The file operations of one connection; raises as `explained`."""
    row = await _the_one(tx, prefix.strip().lower(), viewer)
    return await contents.files_of(tx, row["connection_id"], limit)


async def tunnel_of(
    tx: AsyncConnection, connection_id: str, user: str | None
) -> dict[str, Any] | None:
    """One tunnel's row with the `sentence` of its end; None if there is none (of `user`'s)."""
    row = await rows.find(tx, connection_id)
    if row is None or row["parent_id"] is not None:
        return None
    if row["connect_type"] != ConnectType.AGENT_TO_CLIENT or user not in (None, row["user"]):
        return None
    return {**row, "sentence": _words(row).sentence}


async def last_agent_end(tx: AsyncConnection, workspace_id: str) -> str:
    """How the last control link of the workspace's agent ended, in one sentence; "" for none."""
    found = await tx.execute(
        select(connections)
        .where(
            connections.c.workspace_id == workspace_id,
            connections.c.connect_type == ConnectType.SERVER_TO_AGENT,
            connections.c.status == ConnectionStatus.CLOSED,
        )
        .order_by(connections.c.seq.desc())
        .limit(1)
    )
    row = found.mappings().one_or_none()
    return "" if row is None else _words(row).sentence


async def _explains(tx: AsyncConnection, root: RowMapping) -> list[dict[str, Any]]:
    """The ends of the incident whose root this connection is, its own left out."""
    c = connections.c
    if root["incident_id"] is None or root["root_event_id"] != root["connection_id"]:
        return []
    found = await tx.execute(
        select(connections)
        .where(c.incident_id == root["incident_id"], c.connection_id != root["connection_id"])
        .order_by(c.disconnected_at)
        .limit(EXPLAINED)
    )
    return [
        {
            **{name: row[name] for name in ("connection_id", "connect_type", "workspace", "user")},
            "disconnected_at": iso(row["disconnected_at"]),
            "disconnect_cause": row["disconnect_cause"],
        }
        for row in found.mappings()
    ]


def _as_symptom(end: dict[str, Any]) -> dict[str, Any]:
    """A later end in the shape of a fact: one timeline shows both."""
    return {
        "vantage": "server",
        "reporter": "server",
        "time": end["disconnected_at"],
        "at": end["disconnected_at"],
        "received_at": end["disconnected_at"],
        "kind": "connection_ended",
        "values": {key: end[key] for key in ("connection_id", "disconnect_cause")},
    }


def visible_to(viewer: Identity) -> ColumnElement[bool]:
    """The rows that are the viewer's to see."""
    if viewer.is_admin:
        return true()
    own = select(workspaces.c.workspace_id).where(workspaces.c.owner == viewer.user)
    return or_(connections.c.user == viewer.user, connections.c.workspace_id.in_(own))


def matching(filters: ConnectionFilter, *, by_index: bool = True) -> list[ColumnElement[bool]]:
    """The rows that the filter asks for; see `of_the_kind`."""
    c = connections.c
    wanted = of_the_kind(filters, by_index=by_index)
    if filters.until is not None:
        wanted.append(c.created_at < filters.until)
    if filters.since is not None:
        wanted.append(or_(c.disconnected_at.is_(None), c.disconnected_at >= filters.since))
    return wanted


def of_the_kind(filters: ConnectionFilter, *, by_index: bool) -> list[ColumnElement[bool]]:
    """The rows that the filter asks for, whenever they lived.

    SQLite keeps no statistics for us, and takes any index that fits. So only the column that leaves the
    fewest rows is offered to it, or none, where the caller has something better (`by_index=False`).
    """
    c = connections.c
    exact = {
        c.incident_id: filters.incident,
        c.workspace: filters.workspace,
        c.user: filters.user,
        c.disconnect_cause: filters.cause,
        c.disconnect_reason: filters.reason,
        c.type: filters.type,
        c.disconnect_initiator: filters.initiator,
        c.disconnect_expected: filters.expected,
        c.status: filters.status,
    }
    wanted = []
    for column, value in exact.items():
        if value is not None:
            compared = column if by_index else func.coalesce(column, column)
            plain = value if isinstance(value, bool) else str(value)
            wanted.append(compared == plain)
            by_index = False
    if filters.status is None:  # a grant is no connection yet
        wanted.append(c.status != str(ConnectionStatus.PENDING))
    return wanted


async def _the_one(tx: AsyncConnection, prefix: str, viewer: Identity) -> RowMapping:
    found = []
    if _ID.fullmatch(prefix):
        c = connections.c.connection_id
        query = select(connections).where(c >= prefix, c < prefix + "g", visible_to(viewer))
        found = list((await tx.execute(query.order_by(c).limit(2))).mappings())
    if not found:
        raise NotFound("connection_not_found", f"there is no connection {prefix[:40]!r}")
    if len(found) > 1 and found[0]["connection_id"] != prefix:
        raise Ambiguous(
            "connection_ambiguous", f"several connections begin with {prefix!r}: give more of it"
        )
    return found[0]


def plain(row: RowMapping, now: float) -> dict[str, Any]:
    """A row as the list of connections shows it."""
    connected_at, disconnected_at = row["connected_at"], row["disconnected_at"]
    until = now if disconnected_at is None else disconnected_at
    return {
        "id": row["connection_id"],
        **{name: row[name] for name in _AS_STORED},
        "agent": None if row["workspace_id"] is None else MAIN_AGENT,
        "created_at": iso(row["created_at"]),
        "connected_at": iso_or_none(connected_at),
        "disconnected_at": iso_or_none(disconnected_at),
        "detached_since": iso_or_none(row["detached_since"]),
        "duration_s": None if connected_at is None else round(max(0.0, until - connected_at), 3),
    }


def _words(row: RowMapping) -> Explanation:
    match row["status"]:
        case ConnectionStatus.PENDING:
            return _NOT_YET_OPEN
        case ConnectionStatus.ONGOING:
            return _STILL_OPEN if row["detached_since"] is None else _DETACHED
    disconnect = Disconnect(
        connect_type=ConnectType(row["connect_type"]),
        cause=row["disconnect_cause"],
        basis=Basis(row["disconnect_basis"]),
        actor=row["disconnect_actor"] or "",
        detail=row["disconnect_detail"] or "",
        exit_code=row["exit_code"],
        exit_signal=row["exit_signal"],
    )
    return explain(disconnect, row["workspace"] or "")


def _fact(testimony: Testimony, fact: Evidence, *, outlived: bool = False) -> dict[str, Any]:
    record = to_record(fact)
    return {
        "vantage": record["vantage"],
        "reporter": str(testimony.reporter),
        "time": iso(fact.at),
        "at": iso(fact.at),
        "received_at": iso(testimony.received_at),
        "kind": record["kind"],
        "values": record["values"],
        "outlived": outlived,
    }
