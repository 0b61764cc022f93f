"""What the server itself told an agent about a tunnel: it is on file before the agent repeats it.

Law: an agent, a client or a relay that says what the server said is not believed; where the server's own
records hold the same cause, the server's words are put on file in their place, with the server's actor.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from sqlalchemy import and_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.attribution import evidence as ev
from tether.attribution.vocabulary import Party, Vantage
from tether.server.connlog.judge import Testimony
from tether.server.connlog.records import find_tunnel
from tether.server.connlog.testimonies import add_testimony, testimonies_about
from tether.server.db.fetch import fetch_one
from tether.server.db.tables.connections import ConnectionRow
from tether.server.db.tables.workspaces import IntentKind, IntentRow, intents, workspaces


async def announce(
    tx: AsyncConnection, connection_ids: Collection[str], said: ev.GoodbyeSaid, now: float
) -> None:
    """Put on file why these tunnels are to end. It is no end yet: kept as a symptom, once."""
    for connection_id in connection_ids:
        row = await find_tunnel(tx, connection_id)
        if row is None:
            continue
        known = _announced(await testimonies_about(tx, row))
        if all((one.cause, one.actor) != (said.cause, said.actor) for one in known):
            announced = Testimony(Vantage.SERVER, now, (), (said,))
            await add_testimony(tx, connection_id, announced)


async def confirmed(
    tx: AsyncConnection, row: ConnectionRow, on_file: Collection[Testimony]
) -> tuple[ev.GoodbyeSaid, ...]:
    """The server's own words, where somebody else has repeated them about `row`."""
    found: list[ev.GoodbyeSaid] = []
    for cause in sorted({said.cause for said in _repeated(on_file)}):
        own = [said for said in _announced(on_file) if said.cause == cause]
        said = own[-1] if own else await _intended(tx, row, cause)
        if said is not None:
            found.append(said)
    return tuple(found)


def _repeated(on_file: Iterable[Testimony]) -> Iterator[ev.GoodbyeSaid]:
    for one in on_file:
        for fact in one.hearsay:
            if isinstance(fact, ev.GoodbyeSaid) and one.reporter is not Vantage.SERVER:
                yield fact


def _announced(on_file: Iterable[Testimony]) -> list[ev.GoodbyeSaid]:
    return [
        fact
        for one in on_file
        if one.reporter is Vantage.SERVER
        for fact in one.symptoms
        if isinstance(fact, ev.GoodbyeSaid) and fact.by is Party.SERVER
    ]


async def _intended(tx: AsyncConnection, row: ConnectionRow, cause: str) -> ev.GoodbyeSaid | None:
    """What somebody asked the server for since the tunnel began, if that has this cause."""
    owner = select(workspaces.c.owner).where(workspaces.c.workspace_id == row.workspace_id)
    of_people = and_(
        intents.c.kind == IntentKind.REVOKE_USER,
        or_(intents.c.subject == row.user, intents.c.subject == owner.scalar_subquery()),
    )
    query = (
        select(intents)
        .where(
            or_(intents.c.workspace_id == row.workspace_id, of_people),
            intents.c.cause == cause,
            intents.c.at >= row.created_at,
        )
        .order_by(intents.c.id.desc())
        .limit(1)
    )
    intent = await fetch_one(tx, query, IntentRow) if cause else None
    if intent is None:
        return None
    return ev.GoodbyeSaid(
        vantage=Vantage.SERVER,
        at=intent.at,
        by=Party.SERVER,
        cause=intent.cause,
        actor=intent.actor,
        detail="" if intent.actor == intent.requested_by else f"asked for by {intent.requested_by}",
    )
