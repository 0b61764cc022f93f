"""One connection explained: why it ended, and everything on file about it.

Law: reads only, of connections that the caller has found visible; what is listed is bounded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.attribution.disconnect import Disconnect
from tether.attribution.evidence import Evidence
from tether.attribution.explain import Explanation, explain
from tether.attribution.records import to_record
from tether.attribution.vocabulary import ConnectType, Vantage
from tether.server.connlog import agent_states, path_rows
from tether.server.connlog.judge import Testimony, about_the_end, classify_end
from tether.server.connlog.queries import activity
from tether.server.connlog.testimonies import testimonies_about
from tether.server.db.fetch import fetch_all, fetch_one
from tether.server.db.tables.activity import ForwardRow, IdeSessionRow, SessionRow
from tether.server.db.tables.agent_states import AgentStateRow
from tether.server.db.tables.connections import (
    ConnectionRow,
    ConnectionStatus,
    PathEventRow,
    RevisionRow,
    connections,
    revisions,
)

LISTED = 100
"""Connections, forwarded connections, and file operations, that an explanation lists."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class FactOnFile:
    """A fact as people read it: who saw it, who handed it in, when, and its values."""

    vantage: str
    reporter: Vantage
    at: float
    received_at: float
    kind: str
    values: dict[str, Any]
    outlived: bool = False
    """Of a carrier that the tunnel outlived: not judged as its end."""
    hearsay: bool = False
    """Its reporter cannot have seen or done this: not judged at all."""

    @property
    def time(self) -> float:
        """The same as `at`: the API shows it under both names."""
        return self.at


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictAlone:
    """What would have been concluded from one vantage's facts, without the others."""

    vantage: Vantage
    facts: int
    cause: str
    title: str
    rule: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedConnection:
    """One connection with everything on file about it."""

    row: ConnectionRow
    explanation: Explanation
    evidence: list[FactOnFile]
    symptoms: list[FactOnFile]
    explains: list[ConnectionRow]
    """The other ends of the incident whose root this connection is."""
    alone: list[VerdictAlone]
    agent_states: list[AgentStateRow]
    sessions: list[SessionRow]
    revisions: list[RevisionRow]
    children: list[ConnectionRow]
    ide: IdeSessionRow | None
    forwards: list[ForwardRow]
    forwards_total: int
    file_operations: list[activity.FileAudit]
    path_events: list[PathEventRow]


async def explain_connection(tx: AsyncConnection, row: ConnectionRow) -> ExplainedConnection:
    """Everything on file about a connection."""
    connection_id = row.connection_id
    on_file = await testimonies_about(tx, row)
    judged = {id(fact) for one in about_the_end(on_file, row.carrier) for fact in one.facts}
    explains = await _explained_by(tx, row)
    history = (
        select(revisions)
        .where(revisions.c.connection_id == connection_id)
        .order_by(revisions.c.revision)
    )
    return ExplainedConnection(
        row=row,
        explanation=explanation_of(row),
        evidence=[
            _on_file(
                one,
                fact,
                outlived=fact in one.facts and id(fact) not in judged,
                hearsay=fact not in one.facts,
            )
            for one in on_file
            for fact in (*one.facts, *one.hearsay)
        ],
        symptoms=[
            *(_on_file(one, fact) for one in on_file for fact in one.symptoms),
            *map(_as_symptom, explains),
        ],
        explains=explains,
        alone=_alone(row.connect_type, on_file) if row.is_closed else [],
        agent_states=await agent_states.states_of_run(tx, row.workspace_id, row.agent_instance),
        sessions=await activity.sessions_of(tx, connection_id),
        revisions=await fetch_all(tx, history, RevisionRow),
        children=await activity.children_of(tx, connection_id),
        ide=await activity.ide_session_of(tx, connection_id),
        forwards=await activity.forwards_of(tx, connection_id, LISTED),
        forwards_total=await activity.forwards_total(tx, connection_id),
        file_operations=await activity.files_of(tx, connection_id, LISTED),
        path_events=await path_rows.path_of(tx, connection_id),
    )


def _alone(connect_type: ConnectType, on_file: list[Testimony]) -> list[VerdictAlone]:
    told = []
    for vantage in Vantage:
        own = [
            replace(one, facts=facts)
            for one in on_file
            if (facts := tuple(fact for fact in one.facts if fact.vantage is vantage))
        ]
        if own:
            verdict = classify_end(connect_type, own)
            told.append(
                VerdictAlone(
                    vantage=vantage,
                    facts=sum(len(one.facts) for one in own),
                    cause=verdict.disconnect.cause,
                    title=verdict.disconnect.row.title,
                    rule=verdict.rule,
                )
            )
    return told


def explanation_of(row: ConnectionRow) -> Explanation:
    """The sentences for people about the end of a connection, or about one that is open."""
    if row.status is ConnectionStatus.PENDING:
        return _NOT_YET_OPEN
    if row.is_ongoing:
        return _STILL_OPEN if row.detached_since is None else _DETACHED
    assert row.disconnect_cause is not None, "it is closed"
    assert row.disconnect_basis is not None, "it is closed"
    disconnect = Disconnect(
        connect_type=row.connect_type,
        cause=row.disconnect_cause,
        basis=row.disconnect_basis,
        actor=row.disconnect_actor or "",
        detail=row.disconnect_detail or "",
        exit_code=row.exit_code,
        exit_signal=row.exit_signal,
    )
    return explain(disconnect, row.workspace or "")


async def last_agent_end(tx: AsyncConnection, workspace_id: str) -> str:
    """How the last control link of the workspace's agent ended, in one sentence; "" for none."""
    query = (
        select(connections)
        .where(
            connections.c.workspace_id == workspace_id,
            connections.c.connect_type == ConnectType.SERVER_TO_AGENT,
            connections.c.status == ConnectionStatus.CLOSED,
        )
        .order_by(connections.c.seq.desc())
        .limit(1)
    )
    row = await fetch_one(tx, query, ConnectionRow)
    return "" if row is None else explanation_of(row).sentence


async def _explained_by(tx: AsyncConnection, root: ConnectionRow) -> list[ConnectionRow]:
    """The other ends of the incident whose root this connection is."""
    c = connections.c
    if root.incident_id is None or root.root_event_id != root.connection_id:
        return []
    query = (
        select(connections)
        .where(c.incident_id == root.incident_id, c.connection_id != root.connection_id)
        .order_by(c.disconnected_at)
        .limit(LISTED)
    )
    return await fetch_all(tx, query, ConnectionRow)


def _as_symptom(row: ConnectionRow) -> FactOnFile:
    """A later end in the shape of a fact: one timeline shows both."""
    assert row.disconnected_at is not None, "it is closed"
    return FactOnFile(
        vantage=str(Vantage.SERVER),
        reporter=Vantage.SERVER,
        at=row.disconnected_at,
        received_at=row.disconnected_at,
        kind="connection_ended",
        values={"connection_id": row.connection_id, "disconnect_cause": row.disconnect_cause},
    )


def _on_file(
    testimony: Testimony, fact: Evidence, *, outlived: bool = False, hearsay: bool = False
) -> FactOnFile:
    record = to_record(fact)
    return FactOnFile(
        vantage=record["vantage"],
        reporter=testimony.reporter,
        at=fact.at,
        received_at=testimony.received_at,
        kind=record["kind"],
        values=record["values"],
        outlived=outlived,
        hearsay=hearsay,
    )
