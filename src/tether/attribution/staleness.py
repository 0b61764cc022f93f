"""Which circumstances can still explain an end: those after which nothing was heard.

Law: pure arithmetic over spans that one observer measured by its own clock. A machine that slept, an
address that went and came back, a process that stood still: once a byte has come after it on a stream,
it has done that stream no harm, and a later end has another cause. `Case` leaves it out, so that no
rule has to ask.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeGuard

from tether.attribution import evidence as ev
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import SILENCE_CODE, Vantage

IN_FLIGHT_S = 2.0
"""What had been sent during a pause is read for so long after it: that is no sign of life."""


def without_stale(facts: Iterable[Evidence]) -> tuple[Evidence, ...]:
    """`facts` without the circumstances that were over before the last byte came.

    A circumstance is measured by the streams of its own observer. It stays where one of them had been
    silent ever since, and where the observer tells of no end, or not when it last heard something.
    """
    seen = tuple(facts)
    if not any(isinstance(fact, ev.Circumstance) for fact in seen):
        return seen
    heard = {vantage: _last_heard(seen, vantage) for vantage in Vantage}
    return tuple(
        fact
        for fact in seen
        if not isinstance(fact, ev.Circumstance) or _counts(fact, heard[fact.vantage])
    )


def _counts(fact: ev.Circumstance, heard: Sequence[tuple[float, float]]) -> bool:
    return not heard or any(ended_at - fact.at <= ago + IN_FLIGHT_S for ended_at, ago in heard)


def _last_heard(facts: Sequence[Evidence], observer: Vantage) -> list[tuple[float, float]]:
    """For each of the observer's streams: when it ended, and how long before that the last byte came."""
    return [
        (ended.at, ago)
        for ended in facts
        if isinstance(ended, ev.StreamEnded)
        and ended.vantage is observer
        and (ago := heard_ago_s(ended, facts)) is not None
    ]


def heard_ago_s(ended: ev.StreamEnded, facts: Sequence[Evidence]) -> float | None:
    """For how many seconds nothing had been heard on a stream when it ended; None if nobody tells.

    Where the peer gave the stream up, that is how long the peer had heard nothing: what its silence
    comes from may lie before the last thing that it said itself. An older program tells only for how
    long nothing had gone either way, and its kernel when data last came: the longer of both is it.
    """
    if ended.close_code == SILENCE_CODE:
        return next((far.silence_s for far in facts if _is_far_end(far, ended)), None)
    if ended.heard_ago_s is not None:
        return ended.heard_ago_s
    if ended.silence_s is not None:
        return ended.silence_s
    counted = [
        counters.last_data_recv_ms / 1000
        for counters in facts
        if isinstance(counters, ev.TcpCounters)
        and counters.vantage is ended.vantage
        and counters.peer is ended.peer
    ]
    return max([*counted, *([] if ended.idle_s is None else [ended.idle_s])], default=None)


def _is_far_end(fact: Evidence, ended: ev.StreamEnded) -> TypeGuard[ev.StreamEnded]:
    return (
        isinstance(fact, ev.StreamEnded)
        and str(fact.vantage) == str(ended.peer)
        and str(fact.peer) == str(ended.vantage)
    )
