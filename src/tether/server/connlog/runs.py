"""The server's own runs: how the last one ended, and what that says of the connections it left open.

Law: one transaction tells the whole post-mortem, so that a start that is cut off tells it again. Only
control rows are closed here: a tunnel outlives its server, and of its end its agent knows more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.attribution import evidence as ev
from tether.attribution.vocabulary import ConnectType, Party, Reason, Vantage
from tether.server.connlog import rows
from tether.server.connlog.judge import Testimony
from tether.server.connlog.records import (
    IS_CHILD,
    IS_ONGOING,
    IS_OPEN,
    IS_TUNNEL,
    OpenTunnel,
    open_rows,
    open_tunnel,
)
from tether.server.db.tables.connections import connections
from tether.server.db.tables.server_runs import runs

SILENCE = frozenset(
    map(str, (Reason.NETWORK_ERROR, Reason.PEER_UNRESPONSIVE, Reason.CLIENT_SUSPENDED))
)
"""How links end of peers that may be there still."""


@dataclass(frozen=True, slots=True)
class ServerRun:
    """What the start of this run found. `tunnels` are the rows that still wait for their end, and
    `children` is how many IDE sessions do."""

    died: bool
    last_alive_at: float | None
    tunnels: tuple[OpenTunnel, ...]
    pending: int
    children: int = 0
    silent: frozenset[str] = frozenset()
    """The journals of agents that had fallen silent before, and may be asleep or cut off."""
    death: tuple[ev.Evidence, ...] = ()
    """What the last run's end says, where it was none in order. It ends no tunnel by itself."""


DeathOf = Callable[[str], tuple[ev.Evidence, ...]]
"""What a black box says about the death of a run, by its id; nothing where there was none."""


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
) -> tuple[ServerRun, list[rows.Event]]:
    """Begin a run; say of the last one's connections what can be said now."""
    last = await tx.execute(select(runs).order_by(runs.c.started_at.desc()).limit(1))
    previous = last.mappings().one_or_none()
    died = previous is not None and previous["stopped_cleanly_at"] is None
    alive_at: float | None = None if previous is None else previous["last_alive_at"]
    await tx.execute(insert(runs).values(run_id=run_id, started_at=now, last_alive_at=now))
    death: tuple[ev.Evidence, ...] = ()
    if died and previous is not None and alive_at is not None:
        death = death_of(previous["run_id"]) or (_death(alive_at, now, booted_at),)
    events: list[rows.Event] = []
    links = connections.c.connect_type != str(ConnectType.AGENT_TO_CLIENT)
    for row in await open_rows(tx, IS_ONGOING, links):
        if death:
            testimony = Testimony(Vantage.SERVER, now, death)
            await rows.add_testimony(tx, row["connection_id"], testimony)
        ended_at = now if alive_at is None else alive_at
        settled = await rows.settle(tx, row, ended_at=ended_at, now=now)
        events += [settled] if settled else []
    silent = await _silent(tx)
    left = [open_tunnel(row) for row in await open_rows(tx, IS_TUNNEL, IS_OPEN)]
    tunnels = tuple(one for one in left if one.is_ongoing)
    children = len(await open_rows(tx, IS_CHILD, IS_OPEN))
    pending = len(left) - len(tunnels)
    return ServerRun(died, alive_at, tunnels, pending, children, silent, death), events


async def _silent(tx: AsyncConnection) -> frozenset[str]:
    """Journals with ongoing tunnels whose agent's last link ended in silence, before this start."""
    agents = {
        (row["workspace_id"], row["journal_id"])
        for row in await open_rows(tx, IS_TUNNEL, IS_ONGOING)
    }
    found = set()
    for workspace_id, journal_id in agents:
        last = await tx.scalar(
            select(connections.c.disconnect_reason)
            .where(
                connections.c.workspace_id == workspace_id,
                connections.c.connect_type == str(ConnectType.SERVER_TO_AGENT),
                connections.c.journal_id == journal_id,
            )
            .order_by(connections.c.seq.desc())
            .limit(1)
        )
        if last in SILENCE:
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
