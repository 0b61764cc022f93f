"""What reporters have handed in about connections, inside one transaction.

Law: kept as far as there is room, and never changed; what has no standing is told apart as it is read.
Nothing is judged here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy import and_, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.attribution.evidence import Evidence
from tether.attribution.records import from_record, to_record
from tether.attribution.vocabulary import Vantage
from tether.server.connlog.activity import LATEST_TIME
from tether.server.connlog.judge import Testimony
from tether.server.db.fetch import fetch_all
from tether.server.db.tables.connections import ConnectionRow, EvidenceRow, evidence

MAX_FACTS = 64
"""Facts kept of one testimony; a connection's real end has a dozen."""

MAX_FACT_BYTES = 4096
SHORTEST_CUT = 64
"""Characters of each text that are left at least where a fact is too large."""

MAX_TESTIMONIES = 16
"""Testimonies kept of one reporter about one connection."""


async def add_testimony(tx: AsyncConnection, connection_id: str, testimony: Testimony) -> None:
    """Keep what a reporter hands in about a connection, as far as there is room."""
    its = and_(evidence.c.connection_id == connection_id, evidence.c.reporter == testimony.reporter)
    kept = await tx.scalar(select(func.count()).select_from(evidence).where(its))
    if (kept or 0) >= MAX_TESTIMONIES:
        if testimony.carrier is None:
            return
        # a tunnel may use up many carriers, and only the last ones matter for its end
        oldest = select(func.min(evidence.c.id)).where(its).scalar_subquery()
        await tx.execute(delete(evidence).where(evidence.c.id == oldest))
    await tx.execute(
        insert(evidence).values(
            connection_id=connection_id,
            reporter=testimony.reporter,
            received_at=testimony.received_at,
            facts=_storable((*testimony.facts, *testimony.hearsay)),
            symptoms=_storable(testimony.symptoms),
            carrier=testimony.carrier,
        )
    )


async def testimonies_about(tx: AsyncConnection, row: ConnectionRow) -> list[Testimony]:
    """Everything on file about a connection, in the order in which it came."""
    query = (
        select(evidence)
        .where(evidence.c.connection_id == row.connection_id)
        .order_by(evidence.c.id)
    )
    return [
        Testimony(
            reporter=one.reporter,
            received_at=one.received_at,
            facts=tuple(map(from_record, one.facts)),
            symptoms=tuple(map(from_record, one.symptoms)),
            carrier=one.carrier,
        ).by_standing(row.created_at)
        for one in await fetch_all(tx, query, EvidenceRow)
    ]


async def has_carriers_end(tx: AsyncConnection, connection_id: str, carrier: int) -> bool:
    """Whether a relay has reported the end of this carrier."""
    found = await tx.scalar(
        select(evidence.c.id).where(
            evidence.c.connection_id == connection_id,
            evidence.c.reporter == Vantage.RELAY,
            evidence.c.carrier == carrier,
        )
    )
    return found is not None


async def last_carriers_end(tx: AsyncConnection, connection_id: str) -> float | None:
    """When a relay reported the end of the tunnel's last carrier, by the server's own clock."""
    at: float | None = await tx.scalar(
        select(func.max(evidence.c.received_at)).where(
            evidence.c.connection_id == connection_id,
            evidence.c.reporter == Vantage.RELAY,
        )
    )
    return at


def _fitting(record: dict[str, Any]) -> dict[str, Any] | None:
    """The record, its texts cut where it would be too large: a goodbye with a long detail is one all
    the same. None for one that no cut makes small enough."""
    longest = MAX_FACT_BYTES
    while len(msgspec.json.encode(record)) > MAX_FACT_BYTES:
        longest //= 2
        if longest < SHORTEST_CUT:
            return None
        values = {
            name: value[:longest] if isinstance(value, str) else value
            for name, value in record["values"].items()
        }
        record = {**record, "values": values}
    return record


def _storable(facts: Iterable[Evidence]) -> list[dict[str, Any]]:
    kept = []
    for fact in facts:
        record = _fitting(to_record(fact))
        if 0 <= fact.at <= LATEST_TIME and record is not None:
            kept.append(record)
    # the first fact of a cell may say how it began, the last one is the cause: keep both ends
    return kept if len(kept) <= MAX_FACTS else kept[: MAX_FACTS // 2] + kept[-MAX_FACTS // 2 :]
