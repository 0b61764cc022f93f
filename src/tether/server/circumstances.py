"""What the server itself knows around an end: what somebody had asked for, and who else ended then.

Law: facts of the server's own vantage, from its own rows and its own clock; nothing is concluded here.
Asked only for an end that nobody declared, so that an ordinary end costs no query.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import RowMapping, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.attribution import evidence as ev
from tether.attribution.predicates import INTENT_S
from tether.attribution.vocabulary import ConnectType, Element, Party, Vantage
from tether.server.judge import Judgement
from tether.server.schema import ConnectionStatus, IntentKind, connections, intents

WINDOW_S = 30.0
"""Ends within two keepalives of each other are one event's: some are noticed later than others."""

_ENDING = (IntentKind.STOP, IntentKind.EVICT, IntentKind.DELETE, IntentKind.REVOKE_USER)

ALONE = ("agent.unreachable", "agent.vanished")
"""Causes that say of one agent what may be true of its whole machine."""

CLIENT_ALONE = ("client.unreachable", "client.vanished")
"""Causes that say of a client's link what its return may correct."""


async def around(
    tx: AsyncConnection, row: RowMapping, judgement: Judgement, *, ended_at: float, now: float
) -> tuple[ev.Evidence, ...]:
    """The facts to judge `row` with besides, at its first close."""
    disconnect = judgement.verdict.disconnect
    if disconnect.expected and disconnect.cause != "agent.shutdown":
        return ()
    intent = await _intent(tx, row, ended_at=ended_at, now=now)
    mates = () if disconnect.cause not in ALONE else await together(tx, row, now)
    return (*intent, *mates)


async def _intent(
    tx: AsyncConnection, row: RowMapping, *, ended_at: float, now: float
) -> tuple[ev.Evidence, ...]:
    """What was asked for last of the row's workspace or user, if that ends a connection."""
    about = [and_(intents.c.kind == IntentKind.REVOKE_USER, intents.c.subject == row["user"])]
    if row["workspace_id"] is not None:
        about.append(intents.c.workspace_id == row["workspace_id"])
    found = await tx.execute(
        select(intents)
        .where(or_(*about), intents.c.at.between(ended_at - INTENT_S, ended_at))
        .order_by(intents.c.id.desc())
        .limit(1)
    )
    intent = found.mappings().one_or_none()
    if intent is None or intent["kind"] not in _ENDING or not intent["cause"]:
        return ()
    return (
        ev.IntentRecorded(
            vantage=Vantage.SERVER,
            at=now,
            intent=intent["kind"],
            cause=intent["cause"],
            before_s=round(ended_at - intent["at"], 3),
            actor=intent["actor"],
        ),
    )


def _mates(row: RowMapping) -> list[object]:
    c = connections.c
    return [
        c.node_id == row["node_id"],
        c.connect_type == ConnectType.SERVER_TO_AGENT,
        c.workspace_id != row["workspace_id"],
    ]


async def together(tx: AsyncConnection, row: RowMapping, now: float) -> tuple[ev.Evidence, ...]:
    """How many agents of the row's machine ended within the window, if this one is not alone."""
    if row["node_id"] is None or row["workspace_id"] is None:
        return ()
    c = connections.c
    ended = (c.status == ConnectionStatus.CLOSED) & (c.disconnected_at >= now - WINDOW_S)
    alive = c.status == ConnectionStatus.ONGOING
    counts = [
        await tx.scalar(
            select(func.count(func.distinct(c.workspace_id))).where(*_mates(row), which)  # type: ignore[arg-type]
        )
        for which in (ended, alive)
    ]
    if not counts[0]:
        return ()
    return (
        ev.EndedTogether(
            vantage=Vantage.SERVER,
            at=now,
            element=Element.NODE,
            ended=counts[0] + 1,
            alive=counts[1] or 0,
        ),
    )


async def mates_to_judge_again(
    tx: AsyncConnection, row: RowMapping, now: float
) -> Sequence[RowMapping]:
    """The links of the machine's other agents that ended just before, each for itself."""
    if row["node_id"] is None:
        return ()
    c = connections.c
    found = await tx.execute(
        select(connections)
        .where(
            *_mates(row),  # type: ignore[arg-type]
            c.status == ConnectionStatus.CLOSED,
            c.disconnected_at >= now - WINDOW_S,
            c.disconnect_cause.in_(ALONE),
        )
        .limit(100)
    )
    return found.mappings().all()


RETURN_S = 600.0
"""A return after more than this says nothing of the end before it."""


async def unexplained_before(tx: AsyncConnection, row: RowMapping, now: float) -> RowMapping | None:
    """The last link of this workspace's agent, if it ended lately and for no known reason."""
    c = connections.c
    found = await tx.execute(
        select(connections)
        .where(
            c.workspace_id == row["workspace_id"],
            c.connect_type == ConnectType.SERVER_TO_AGENT,
            c.seq < row["seq"],
        )
        .order_by(c.seq.desc())
        .limit(1)
    )
    last = found.mappings().one_or_none()
    if last is None or last["status"] != ConnectionStatus.CLOSED:
        return None
    lately = now - last["disconnected_at"] <= RETURN_S
    return last if lately and last["disconnect_cause"] in ALONE else None


def returned(
    last: RowMapping, row: RowMapping, *, instance_id: str, boot_id: str, now: float
) -> ev.PeerReturned:
    """Who came back after `last` ended, beside who had left."""
    known_boot = bool(last["node_id"] and boot_id)
    return ev.PeerReturned(
        vantage=Vantage.SERVER,
        at=now,
        party=Party.AGENT,
        after_s=round(max(0.0, now - last["disconnected_at"]), 3),
        same_run=last["agent_instance"] == instance_id,
        same_address=last["client_ip"] == row["client_ip"],
        same_boot=last["node_id"] == boot_id if known_boot else None,
    )
