"""The first screen: who was cut off in the last day and by whom, over time, and against the day before.

Law: reads only, and shows a viewer what is theirs to see. People are counted, not connections: somebody
who was cut off ten times is one, and is counted on each side that cut them off.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Integer, and_, case, cast, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.attribution.causes.catalogue import cause_of
from tether.attribution.sides import Side, side_of
from tether.attribution.vocabulary import ConnectType
from tether.server.connlog.queries.incidents import recent_incidents
from tether.server.connlog.queries.listing import visible_to
from tether.server.connlog.queries.markers import markers
from tether.server.db.tables.connections import connections
from tether.server.identity import Identity
from tether.server.times import iso

_C = connections.c

STEP_S = 300
NAMED = 8
"""People of a side that are named, those who were cut off most first."""

CHANGES = 8
"""Causes that are told of, those that changed most first."""

AGENT_MARKERS = 100

_TUNNEL = func.coalesce(
    and_(_C.connect_type == str(ConnectType.AGENT_TO_CLIENT), _C.parent_id.is_(None)), False
)
"""Bare, SQLite would take the index of `parent_id`, in which nearly every row has none."""


@dataclass(slots=True)
class _Person:
    user: str
    ends: int = 0
    last_at: float = 0.0
    last_cause: str = ""
    last_id: str = ""


@dataclass(slots=True)
class _Cuts:
    """The unexpected ends of one period."""

    people: dict[Side, dict[str, _Person]] = field(default_factory=lambda: defaultdict(dict))
    ends: Counter[Side] = field(default_factory=Counter)
    causes: Counter[str] = field(default_factory=Counter)
    hit: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    @property
    def everybody(self) -> set[str]:
        return {name for side in self.people.values() for name in side}


async def overview(
    tx: AsyncConnection, viewer: Identity, now: float, *, span_s: float
) -> dict[str, Any]:
    """Everything of the first screen, over the last `span_s` seconds."""
    since = now - span_s
    cuts = await _cuts(tx, viewer, since - span_s, since, now)
    today, before = cuts[True], cuts[False]
    return {
        "since": iso(since),
        "until": iso(now),
        "people": len(today.everybody),
        "people_before": len(before.everybody),
        "ends": today.ends.total(),
        "ends_before": before.ends.total(),
        "sides": [_side(side, today, before) for side in Side],
        "timeline": await _timeline(tx, viewer, since, now),
        "markers": await markers(tx, viewer, since, now),
        "incidents": await recent_incidents(tx, viewer, since, now),
        "changes": _changes(today, before),
    }


async def _cuts(
    tx: AsyncConnection, viewer: Identity, first: float, since: float, until: float
) -> dict[bool, _Cuts]:
    """Unexpected ends of tunnels: of the time from `since` on (True), and from `first` to it."""
    late = case((_C.disconnected_at >= since, 1), else_=0)
    found = await tx.execute(
        select(
            late,
            func.coalesce(_C.user, ""),
            _C.disconnect_cause,
            func.count(),
            func.max(_C.disconnected_at),
            _C.connection_id,  # SQLite: of the row that has the maximum
        )
        .where(
            _C.disconnected_at >= first,
            _C.disconnected_at <= until,
            func.coalesce(_C.disconnect_expected, True).is_(False),
            _TUNNEL,
            visible_to(viewer),
        )
        .group_by(late, func.coalesce(_C.user, ""), _C.disconnect_cause)
    )
    cuts = {True: _Cuts(), False: _Cuts()}
    for is_late, user, code, many, at, connection_id in found:
        into, side = cuts[bool(is_late)], side_of(code)
        person = into.people[side].setdefault(user, _Person(user))
        person.ends += many
        if at > person.last_at:
            person.last_at = at
            person.last_cause = code
            person.last_id = connection_id
        into.ends[side] += many
        into.causes[code] += many
        into.hit[code].add(user)
    return cuts


def _side(side: Side, today: _Cuts, before: _Cuts) -> dict[str, Any]:
    people = sorted(today.people[side].values(), key=lambda one: (-one.ends, -one.last_at))
    return {
        "side": str(side),
        "people": len(people),
        "people_before": len(before.people[side]),
        "ends": today.ends[side],
        "who": [
            {
                "user": one.user,
                "ends": one.ends,
                "last_at": iso(one.last_at),
                "cause": one.last_cause,
                "connection_id": one.last_id,
            }
            for one in people[:NAMED]
        ],
    }


def _changes(today: _Cuts, before: _Cuts) -> list[dict[str, Any]]:
    """Causes that came more or less often than in the period before, people first."""
    codes = {*today.causes, *before.causes}
    moved: list[dict[str, Any]] = [
        {
            "cause": code,
            "title": cause_of(code).title,
            "side": str(side_of(code)),
            "people": len(today.hit[code]),
            "people_before": len(before.hit[code]),
            "ends": today.causes[code],
            "ends_before": before.causes[code],
            "new": not before.causes[code],
        }
        for code in codes
        if today.causes[code] != before.causes[code]
    ]
    moved.sort(
        key=lambda one: (
            -abs(one["people"] - one["people_before"]),
            -abs(one["ends"] - one["ends_before"]),
            one["cause"],
        )
    )
    return moved[:CHANGES]


async def _timeline(
    tx: AsyncConnection, viewer: Identity, since: float, until: float
) -> dict[str, Any]:
    """Ends of tunnels in steps of five minutes: expected ones, and the others by side."""
    first = since // STEP_S * STEP_S
    steps = int((until - first) // STEP_S) + 1
    step = cast((_C.disconnected_at - first) / STEP_S, Integer)
    found = await tx.execute(
        select(step, _C.disconnect_cause, _C.disconnect_expected, func.count())
        .where(
            _C.disconnected_at >= first,
            _C.disconnected_at <= until,
            _TUNNEL,
            visible_to(viewer),
        )
        .group_by(step, _C.disconnect_cause, _C.disconnect_expected)
    )
    expected = [0] * steps
    sides: dict[str, list[int]] = {}
    for at, code, was_expected, many in found:
        if not 0 <= at < steps:
            continue
        bars = expected if was_expected else sides.setdefault(str(side_of(code)), [0] * steps)
        bars[at] += many
    return {"since": iso(first), "step_s": STEP_S, "unexpected": sides, "expected": expected}
