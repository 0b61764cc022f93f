"""Old ends judged by today's rules: what would change, and, if it is wanted, the change.

Law: never overwrites: what is written is a revision, as any later judgement is. Goes through the log
in pages, newest first, so that no transaction is long.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.attribution.vocabulary import ConnectType
from tether.server.api.ports import ConnectionFilter
from tether.server.connlog import rows
from tether.server.connlog.judge import judge_connection, of_the_last_carrier
from tether.server.connlog.queries import browse
from tether.server.db.store import Store
from tether.server.db.tables.connections import ConnectionStatus, connections
from tether.server.identity import Identity

PAGE = 200
LISTED = 500
"""Changes that an answer lists; all are counted."""


@dataclass(slots=True)
class Rejudged:
    """What was found so far. `before` is where the next page begins."""

    judged: int = 0
    changed: int = 0
    changes: list[dict[str, Any]] = field(default_factory=list)
    events: list[rows.Event] = field(default_factory=list)
    before: tuple[float, int] | None = None
    done: bool = False

    def told(self, *, write: bool) -> dict[str, Any]:
        """The answer to whoever asked."""
        return {
            "judged": self.judged,
            "changed": self.changed,
            "written": write,
            "changes": self.changes,
        }


async def everything(
    store: Store, filters: ConnectionFilter, viewer: Identity, *, write: bool, now: float
) -> AsyncIterator[Rejudged]:
    """Judge page after page; what is yielded after each is committed."""
    found = Rejudged()
    while not found.done:

        async def work(tx: AsyncConnection, before: Rejudged = found) -> Rejudged:
            return await page(tx, before, filters, viewer, write=write, now=now)

        found = await (store.write(work) if write else store.read(work))
        yield found


async def page(
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
    where = [
        browse.visible_to(viewer),
        *browse.matching(filters),
        c.status == ConnectionStatus.CLOSED,
    ]
    if found.before is not None:
        where.append(tuple_(c.created_at, c.seq) < found.before)
    listed = (
        (
            await tx.execute(
                select(connections).where(*where).order_by(*browse.NEWEST_FIRST).limit(PAGE)
            )
        )
        .mappings()
        .all()
    )
    for row in listed:
        found.before = (row["created_at"], row["seq"])
        found.judged += 1
        said = of_the_last_carrier(await rows.testimonies(tx, row["connection_id"]), row["carrier"])
        judgement = judge_connection(ConnectType(row["connect_type"]), said)
        if not judgement.differs_from(row):
            continue
        found.changed += 1
        if len(found.changes) < LISTED:
            disconnect = judgement.verdict.disconnect
            found.changes.append(
                {
                    "connection_id": row["connection_id"],
                    "was": row["disconnect_cause"],
                    "was_rule": row["rule"],
                    "now": disconnect.cause,
                    "now_rule": judgement.verdict.rule,
                    "was_expected": row["disconnect_expected"],
                    "now_expected": disconnect.expected,
                }
            )
        if write:
            settled = await rows.settle(tx, row, ended_at=row["disconnected_at"], now=now)
            found.events += [settled] if settled else []
    found.done = len(listed) < PAGE
    return found
