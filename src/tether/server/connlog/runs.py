"""The server's own runs: how the last one ended, and what follows for the connections it left open.

Law: one transaction writes the whole post-mortem, so that a start that is cut off writes it again. Only
rows of control links are closed here: a tunnel outlives its server, and its agent knows more of its end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.attribution import evidence as ev
from tether.attribution.vocabulary import ConnectType, Party, Reason, Vantage
from tether.server.connlog.records import IS_CHILD, IS_ONGOING, IS_OPEN, IS_TUNNEL, find_all
from tether.server.connlog.rows import Event, settle_with
from tether.server.db.fetch import fetch_one
from tether.server.db.tables.connections import ConnectionRow, connections
from tether.server.db.tables.server_runs import ServerRunRow, runs
from tether.version import VERSION

LEAVING_S = 15.0
"""How long before the end of a run the links may have ended that ended with it."""

SILENCE = (Reason.NETWORK_ERROR, Reason.PEER_UNRESPONSIVE, Reason.CLIENT_SUSPENDED)
"""How links end of peers that may be there still."""


@dataclass(frozen=True, slots=True)
class PreviousRun:
    """What the start of a run found of the one before it."""

    died: bool
    last_alive_at: float | None
    tunnels: tuple[ConnectionRow, ...]
    """The ongoing tunnels: their rows still wait for their ends."""
    pending: int
    children: int = 0
    """How many IDE sessions still wait for their ends."""
    agents: frozenset[str] = frozenset()
    """The workspaces whose agents were connected until it ended: they are about to come back."""
    silent: frozenset[str] = frozenset()
    """The journals of agents that had fallen silent before, and may be asleep or cut off."""
    death: tuple[ev.Evidence, ...] = ()
    """How the last run ended, where it did not stop in order. It ends no tunnel by itself."""


DeathOf = Callable[[str], tuple[ev.Evidence, ...]]
"""What a black box knows of the death of a run, by its id; nothing where there was none."""


def no_black_box(run_id: str) -> tuple[ev.Evidence, ...]:
    """For servers that keep none."""
    return ()


async def begin(
    tx: AsyncConnection,
    run_id: str,
    *,
    now: float,
    booted_at: float | None,
    death_of: DeathOf = no_black_box,
) -> tuple[PreviousRun, list[Event]]:
    """Begin a run, and close the control links that the last one left open."""
    newest = select(runs).order_by(runs.c.started_at.desc()).limit(1)
    last = await fetch_one(tx, newest, ServerRunRow)
    await tx.execute(
        insert(runs).values(run_id=run_id, started_at=now, last_alive_at=now, version=VERSION)
    )
    last_alive_at = None if last is None else last.last_alive_at
    death: tuple[ev.Evidence, ...] = ()
    if last is not None and last.stopped_cleanly_at is None:
        death = death_of(last.run_id) or (_death(last.last_alive_at, now, booted_at),)
    events: list[Event] = []
    links = connections.c.connect_type != ConnectType.AGENT_TO_CLIENT
    for row in await find_all(tx, IS_ONGOING, links):
        ended_at = now if last_alive_at is None else last_alive_at
        events += await settle_with(tx, row, death, now, ended_at=ended_at)
    left_open = await find_all(tx, IS_TUNNEL, IS_OPEN)
    tunnels = tuple(row for row in left_open if row.is_ongoing)
    found = PreviousRun(
        died=bool(death),
        last_alive_at=last_alive_at,
        tunnels=tunnels,
        pending=len(left_open) - len(tunnels),
        children=len(await find_all(tx, IS_CHILD, IS_OPEN)),
        silent=await _silent(tx, tunnels),
        agents=await _connected_until(tx, last_alive_at),
        death=death,
    )
    return found, events


async def _connected_until(tx: AsyncConnection, last_alive_at: float | None) -> frozenset[str]:
    """The workspaces whose agents had a link when the last run ended, or left just before: in an
    orderly stop every link ends before the run does."""
    if last_alive_at is None:
        return frozenset()
    found = await tx.execute(
        select(connections.c.workspace_id)
        .where(
            connections.c.connect_type == ConnectType.SERVER_TO_AGENT,
            connections.c.disconnected_at >= last_alive_at - LEAVING_S,
        )
        .distinct()
    )
    return frozenset(workspace for workspace in found.scalars() if workspace is not None)


async def _silent(tx: AsyncConnection, tunnels: tuple[ConnectionRow, ...]) -> frozenset[str]:
    """Journals of ongoing tunnels whose agent's last link ended in silence, before this start."""
    found = set()
    for workspace_id, journal_id in {(row.workspace_id, row.journal_id) for row in tunnels}:
        last = await tx.scalar(
            select(connections.c.disconnect_reason)
            .where(
                connections.c.workspace_id == workspace_id,
                connections.c.connect_type == ConnectType.SERVER_TO_AGENT,
                connections.c.journal_id == journal_id,
            )
            .order_by(connections.c.seq.desc())
            .limit(1)
        )
        if last in SILENCE and journal_id is not None:
            found.add(journal_id)
    return frozenset(found)


async def beat(tx: AsyncConnection, run_id: str, now: float) -> None:
    """Note that the run lives."""
    await tx.execute(update(runs).where(runs.c.run_id == run_id).values(last_alive_at=now))


async def end(tx: AsyncConnection, run_id: str, now: float) -> None:
    """Note that the run stopped in order."""
    await tx.execute(
        update(runs)
        .where(runs.c.run_id == run_id)
        .values(last_alive_at=now, stopped_cleanly_at=now)
    )


def _death(alive_at: float, now: float, booted_at: float | None) -> ev.PreviousRunDied:
    return ev.PreviousRunDied(
        vantage=Vantage.SERVER,
        at=now,
        party=Party.SERVER,
        host_rebooted=booted_at is not None and booted_at > alive_at,
        last_alive_at=alive_at,
    )
