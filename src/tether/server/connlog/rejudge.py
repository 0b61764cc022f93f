"""Old ends judged by today's rules: what would change, and, if it is wanted, the change.

Law: never overwrites: what is written is a revision, as any later judgement is. Goes through the log
in pages, newest first, so that no transaction is long.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

from sqlalchemy.ext.asyncio import AsyncConnection

from tether.server.connlog.filter import RowSearch
from tether.server.connlog.judge import classify_end, differs
from tether.server.connlog.queries import search
from tether.server.connlog.rows import Event, settle
from tether.server.connlog.testimonies import testimonies_about
from tether.server.db.store import Store
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
    """What was found so far. `cursor` is where the next page begins."""

    judged: int = 0
    changed: int = 0
    changes: list[ChangedVerdict] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    cursor: str = ""
    done: bool = False


async def rejudge_all(
    store: Store, wanted: RowSearch, viewer: Identity, *, write: bool, now: float
) -> AsyncIterator[Rejudged]:
    """Judge page after page; what is yielded after each is committed."""
    found, ended = Rejudged(), wanted.of_ended_ones()
    if ended is None:
        yield found
        return
    while not found.done:

        async def work(tx: AsyncConnection, before: Rejudged = found) -> Rejudged:
            return await _page(tx, before, ended, viewer, write=write, now=now)

        found = await (store.write(work) if write else store.read(work))
        yield found


async def _page(
    tx: AsyncConnection,
    before: Rejudged,
    wanted: RowSearch,
    viewer: Identity,
    *,
    write: bool,
    now: float,
) -> Rejudged:
    """Judge the next page again; with `write`, append what changes."""
    found = replace(before, changes=list(before.changes), events=[])
    page = await search.page(tx, wanted, viewer, now, limit=PAGE, cursor=before.cursor)
    for row in page.rows:
        found.judged += 1
        on_file = await testimonies_about(tx, row)
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
    found.cursor, found.done = page.next, not page.next
    return found
