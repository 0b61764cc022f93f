"""What a filter leaves, counted: by every field, and over time.

Law: reads only, and shows a viewer what is theirs to see. The counts of a field leave out that field's
own filter, so that one sees what else could be chosen. What is counted is bounded: of a long span
the newest rows, and the answer says since when.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import CTE, Integer, Select, cast, func, literal, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from tether.attribution.sides import side_of
from tether.server.connlog.filter import RowSearch
from tether.server.connlog.queries.listing import visible_to
from tether.server.connlog.queries.search import FIELDS, conditions, driver_of, step_of
from tether.server.db.tables.connections import connections
from tether.server.identity import Identity

_C = connections.c

MOST = 25_000
"""Rows that are read."""

VALUES = 50
"""Values of a field that are told, the most frequent first."""

BUCKETS = 120

COUNTED = tuple(name for name in FIELDS if name not in ("incident", "session", "rule"))
"""Fields whose values are counted; of others there are as many as rows."""


@dataclass(frozen=True, slots=True)
class Summary:
    """`facets`: field -> its values and how often each. `histogram`: see `_histogram`. `exact`: whether
    all that match were counted; else those that began since `counted_since`."""

    total: int
    exact: bool
    counted_since: float | None
    facets: dict[str, list[dict[str, Any]]]
    histogram: dict[str, Any]


async def summary(
    tx: AsyncConnection,
    search: RowSearch,
    viewer: Identity,
    now: float,
    names: Iterable[str] = COUNTED,
) -> Summary:
    """Everything about a filter in one answer."""
    names = tuple(names)
    filtered = {name for name in names if search.values.get(name)}
    read = step_of(await driver_of(tx, search), None, MOST)
    oldest = (await tx.execute(read.offset(MOST - 1).limit(1))).one_or_none()
    began = oldest.created_at if oldest is not None else await tx.scalar(_first(read))
    span = _Span.of(search, began, now)
    counts = await _counts(tx, _matching(read, search, viewer, now), names, span)
    for name in filtered:
        counts[name] = await _counts_without(tx, search.without(name), name, viewer, now)
    sides = counts.get("cause", Counter())
    if search.sides or "cause" in filtered:
        free = search.without("side").without("cause")
        sides = await _counts_without(tx, free, "cause", viewer, now)
    counts["side"] = _by_side(sides)
    return Summary(
        total=counts[_TOTAL][0],
        exact=oldest is None,
        counted_since=None if oldest is None else oldest.created_at,
        facets={name: _listed(counts[name]) for name in ("side", *names)},
        histogram=span.histogram(counts),
    )


_TOTAL, _ENDED, _BEGAN = "@total", "@ended", "@began"
"""What is counted beside the fields."""


@dataclass(frozen=True, slots=True)
class _Span:
    """What the histogram shows, in unix seconds."""

    since: float
    until: float

    @classmethod
    def of(cls, search: RowSearch, began: float | None, now: float) -> _Span:
        bounds = (search.ended_since, search.lived_since, search.began_since)
        since = next((bound for bound in bounds if bound is not None), began)
        ends = (search.ended_until, search.lived_until, search.began_until)
        until = next((bound for bound in ends if bound is not None), now)
        since = until - 86_400 if since is None else since
        return cls(min(since, until - 1), until)

    @property
    def step_s(self) -> float:
        return (self.until - self.since) / BUCKETS

    def counted(self, matching: CTE) -> list[Select[Any]]:
        """Ends of each bucket by cause and whether they were expected, and beginnings of each."""
        m = matching.c
        ended = cast((m.at - self.since) / self.step_s, Integer)
        began = cast((m.began - self.since) / self.step_s, Integer)
        inside = (m.at >= self.since, m.at < self.until)
        return [
            select(literal(_ENDED), ended, m.cause, m.expected, func.count())
            .where(*inside, m.cause.is_not(None))
            .group_by(ended, m.cause, m.expected),
            select(literal(_BEGAN), began, literal(""), literal(False), func.count())
            .where(m.began >= self.since, m.began < self.until)
            .group_by(began),
            select(
                literal(_TOTAL), literal(0), literal(""), literal(False), func.count()
            ).select_from(matching),
        ]

    def histogram(self, counts: dict[str, Counter[Any]]) -> dict[str, Any]:
        sides: dict[str, list[int]] = {}
        expected, begun = [0] * BUCKETS, [0] * BUCKETS
        for (at, cause, was_expected), many in counts[_ENDED].items():
            if 0 <= at < BUCKETS:
                bars = expected
                if not was_expected:
                    bars = sides.setdefault(str(side_of(cause)), [0] * BUCKETS)
                bars[at] += many
        for at, many in counts[_BEGAN].items():
            if 0 <= at < BUCKETS:
                begun[at] += many
        return {
            "since": self.since,
            "until": self.until,
            "step_s": self.step_s,
            "unexpected": sides,
            "expected": expected,
            "began": begun,
        }


def _first(read: Select[Any]) -> Select[Any]:
    return select(func.min(read.subquery().c.created_at))


def _matching(read: Select[Any], search: RowSearch, viewer: Identity, now: float) -> CTE:
    """Those of the rows that were read that match, with the columns that are counted."""
    at = func.coalesce(_C.disconnected_at, now).label("at")
    columns = [FIELDS[name].label(name) for name in FIELDS]
    where = [visible_to(viewer), *conditions(search, now)]
    matching = select(_C.created_at.label("began"), at, *columns).where(
        _C.seq.in_(select(read.subquery().c.seq)), *where
    )
    return matching.cte("m").prefix_with("MATERIALIZED", dialect="sqlite")


async def _counts(
    tx: AsyncConnection, matching: CTE, names: tuple[str, ...], span: _Span | None = None
) -> dict[str, Counter[Any]]:
    found: dict[str, Counter[Any]] = {name: Counter() for name in (*names, _TOTAL, _ENDED, _BEGAN)}
    parts = [
        select(literal(name), matching.c[name], literal(""), literal(False), func.count()).group_by(
            matching.c[name]
        )
        for name in names
    ]
    parts += [] if span is None else span.counted(matching)
    for name, value, cause, expected, many in await tx.execute(union_all(*parts)):
        if name == _ENDED:
            found[name][value, cause, bool(expected)] += many
        elif name in (_TOTAL, _BEGAN):
            found[name][value] += many
        else:
            found[name][_word(name, value)] += many
    return found


async def _counts_without(
    tx: AsyncConnection, search: RowSearch, name: str, viewer: Identity, now: float
) -> Counter[Any]:
    """The counts of one field, of all that `search` leaves: its own filter is not in it."""
    read = step_of(await driver_of(tx, search), None, MOST)
    return (await _counts(tx, _matching(read, search, viewer, now), (name,)))[name]


def _word(name: str, value: Any) -> str:
    if value is None or value == "":
        return "none"
    return ("true" if value else "false") if name == "expected" else str(value)


def _by_side(causes: Counter[Any]) -> Counter[Any]:
    sides: Counter[Any] = Counter()
    for code, many in causes.items():
        if code != "none":
            sides[str(side_of(code))] += many
    return sides


def _listed(counts: Counter[Any]) -> list[dict[str, Any]]:
    return [{"value": value, "count": many} for value, many in counts.most_common(VALUES)]
