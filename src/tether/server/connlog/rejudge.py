"""Old ends judged by today's rules: what would change, and, if it is wanted, the change.

Law: never overwrites: what is written is a revision, as any later judgement is. Goes through the log
in pages, newest first, so that no transaction is long.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.server.connlog.filter import ConnectionFilter
from tether.server.connlog.judge import classify_end, differs
from tether.server.connlog.queries.listing import NEWEST_FIRST, matching, visible_to
from tether.server.connlog.rows import Event, settle
from tether.server.connlog.testimonies import testimonies_about
from tether.server.db.fetch import fetch_all
from tether.server.db.store import Store
from tether.server.db.tables.connections import ConnectionRow, ConnectionStatus, connections
from tether.server.identity import Identity

PAGE = 200
LISTED = 500
"""Changes that an answer lists; all are counted."""


@dataclass(frozen=True, slots=True)
class ChangedVerdict:
    """An old end that today's rules judge differently."""

    connection_id: str
    was: str | None
    was_rule: str | None
    now: str
    now_rule: str
    was_expected: bool | None
    now_expected: bool


@dataclass(slots=True)
class Rejudged:
    """What was found so far. `before` is where the next page begins."""

    judged: int = 0
    changed: int = 0
    changes: list[ChangedVerdict] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    before: tuple[float, int] | None = None
    done: bool = False


async def rejudge_all(
    store: Store, filters: ConnectionFilter, viewer: Identity, *, write: bool, now: float
) -> AsyncIterator[Rejudged]:
    """Judge page after page; what is yielded after each is committed."""
    found = Rejudged()
    while not found.done:

        async def work(tx: AsyncConnection, before: Rejudged = found) -> Rejudged:
            return await _page(tx, before, filters, viewer, write=write, now=now)

        found = await (store.write(work) if write else store.read(work))
        yield found


async def _page(
    tx: AsyncConnection,
    before: Rejudged,
    filters: ConnectionFilter,
    viewer: Identity,
    *,
    write: bool,
    now: float,
) -> Rejudged:
    """Judge the next page again; with `write`, append what changes."""
    found = replace(before, changes=list(before.changes), events=[])
    c = connections.c
    where = [visible_to(viewer), *matching(filters), c.status == ConnectionStatus.CLOSED]
    if found.before is not None:
        where.append(tuple_(c.created_at, c.seq) < found.before)
    query = select(connections).where(*where).order_by(*NEWEST_FIRST).limit(PAGE)
    page = await fetch_all(tx, query, ConnectionRow)
    for row in page:
        found.before = (row.created_at, row.seq)
        found.judged += 1
        on_file = await testimonies_about(tx, row.connection_id)
        verdict = classify_end(row.connect_type, on_file, row.carrier)
        if not differs(verdict, row):
            continue
        found.changed += 1
        if len(found.changes) < LISTED:
            found.changes.append(
                ChangedVerdict(
                    connection_id=row.connection_id,
                    was=row.disconnect_cause,
                    was_rule=row.rule,
                    now=verdict.disconnect.cause,
                    now_rule=verdict.rule,
                    was_expected=row.disconnect_expected,
                    now_expected=verdict.disconnect.expected,
                )
            )
        if write:
            found.events += await settle(tx, row, ended_at=row.disconnected_at or now, now=now)
    found.done = len(page) < PAGE
    return found
