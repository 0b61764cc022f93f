"""The figures over many runs.

Law: pure: outcomes in, figures out. A run that was skipped counts nowhere.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tether_gauntlet.scenario import FIELDS
from tether_gauntlet.scoring import RunOutcome

Share = tuple[int, int]
"""So many are right, of so many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """All runs together."""

    scenarios: int
    runs: int
    correct: int
    failed: int
    skipped: dict[str, str]
    fields: dict[str, Share]
    tricky: Share
    controls: Share
    false_disconnects: int
    duplicates: int
    left_open: int
    lost: int
    """Sessions lost that could have lived."""
    known: int
    """Runs that are wrong and are known to be."""
    scattered: int
    wrong_and_sure: int
    unknown: int
    seconds_p50: float
    seconds_p95: float
    flaky: tuple[str, ...]
    """Scenarios that went one way once and another way another time."""
    baselines: dict[str, Share]
    ablation: dict[str, dict[str, int]]
    misled: int
    """Verdicts that turn wrong and sure without a part of the evidence."""


_COUNTS: Mapping[str, Callable[[RunOutcome], int]] = {
    "correct": lambda one: one.correct,
    "failed": lambda one: bool(one.failed),
    "false_disconnects": lambda one: len(one.false_disconnects),
    "duplicates": lambda one: len(one.duplicates),
    "left_open": lambda one: len(one.left_open),
    "lost": lambda one: len(one.lost),
    "known": lambda one: bool(one.known) and not one.correct,
    "scattered": lambda one: one.scattered,
    "wrong_and_sure": lambda one: one.wrong_and_sure,
    "unknown": lambda one: sum(match.unknown for match in one.matches),
    "misled": lambda one: len(one.misled),
}
"""Figures that are summed up over the runs -> what one run adds."""


def summarize(outcomes: Sequence[RunOutcome]) -> Summary:
    """The figures over all runs."""
    ran = [one for one in outcomes if not one.skipped]
    seconds = sorted(one.seconds for one in ran if one.correct and not one.control)
    return Summary(
        scenarios=len({one.scenario for one in outcomes}),
        runs=len(ran),
        skipped={one.name: one.skipped for one in outcomes if one.skipped},
        fields=_fields(ran),
        tricky=_share(one for one in ran if one.tricky),
        controls=_share(one for one in ran if one.control),
        seconds_p50=percentile(seconds, 0.5),
        seconds_p95=percentile(seconds, 0.95),
        flaky=_flaky(ran),
        baselines=_baselines(ran),
        ablation=_ablation(ran),
        **{name: sum(map(count, ran)) for name, count in _COUNTS.items()},
    )


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of the sorted `values` that `share` of them do not exceed; 0 without any."""
    if not values:
        return 0.0
    return values[max(0, math.ceil(share * len(values)) - 1)]


def _share(outcomes: Iterable[RunOutcome]) -> Share:
    verdicts = [one.correct for one in outcomes]
    return sum(verdicts), len(verdicts)


def _fields(outcomes: Sequence[RunOutcome]) -> dict[str, Share]:
    """Field -> the rows in which it is right, of all that there should be."""
    matches = [match for one in outcomes for match in one.matches]
    rows = len(matches) + sum(truth.rows for one in outcomes for truth in one.missing)
    return {
        name: (sum(name not in match.wrong for match in matches), rows)
        for name in (*FIELDS, "disconnect_cause")
    }


def _flaky(outcomes: Iterable[RunOutcome]) -> tuple[str, ...]:
    ways = {(one.name, one.correct) for one in outcomes}
    return tuple(sorted(name for name, count in Counter(n for n, _ in ways).items() if count > 1))


def _baselines(outcomes: Iterable[RunOutcome]) -> dict[str, Share]:
    right: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    for one in outcomes:
        for name, said in one.baselines.items():
            if said.get("correct") is not None:
                asked[name] += 1
                right[name] += bool(said["correct"])
    return {name: (right[name], asked[name]) for name in asked}


def _ablation(outcomes: Iterable[RunOutcome]) -> dict[str, dict[str, int]]:
    """Over all runs; where a run had nothing to withhold, its verdicts stand as they are."""
    total: dict[str, Counter[str]] = {}
    outcomes = list(outcomes)
    for name in dict.fromkeys(name for one in outcomes for name in one.ablation):
        total[name] = Counter()
        for one in outcomes:
            total[name].update(one.ablation.get(name, one.ablation.get("nothing", {})))
    return {name: dict(counts) for name, counts in total.items()}
