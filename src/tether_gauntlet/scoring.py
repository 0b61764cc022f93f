"""Compares the log with the truth.

Law: pure. Rows and truths in, an outcome out. Every row that ended counts: one that no truth is about
is a false disconnect, a second line for one end is a duplicate, and one that should have ended and did
not is left open. A field is right or it is not; `unknown` is wrong, but a wrong answer that claims to
know is worse, and both are counted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tether_gauntlet.lab.stack import Row
from tether_gauntlet.scenario import FIELDS, PLAIN, Scenario, Truth


@dataclass(frozen=True, slots=True)
class Match:
    """One row and the truth about it."""

    truth: Truth
    row: Row

    @property
    def wrong(self) -> tuple[str, ...]:
        """The fields that are not right."""
        want = self.truth.want
        wrong = [name for name in FIELDS if self.row[name] != want[name]]
        if self.row["disconnect_cause"] not in self.truth.causes:
            wrong.append("disconnect_cause")
        for name in ("exit_code", "exit_signal"):
            value = getattr(self.truth, name)
            if value is not None and self.row[name] != value:
                wrong.append(name)
        return tuple(wrong)

    @property
    def unknown(self) -> bool:
        """Whether the log says that it does not know."""
        return bool(self.row["disconnect_reason"] == "unknown")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """How one run of one scenario went."""

    scenario: str
    topology: str = PLAIN
    control: bool
    tricky: bool
    matches: tuple[Match, ...] = ()
    missing: tuple[Truth, ...] = ()
    """Truths with too few rows: what should have ended did not, or was not told."""
    false_disconnects: tuple[Row, ...] = ()
    duplicates: tuple[str, ...] = ()
    """Connections whose end was logged more than once by one program."""
    left_open: tuple[str, ...] = ()
    """Rows that were ongoing when everything had been stopped."""
    lost: tuple[str, ...] = ()
    """Sessions that should have lived, and how they were found dead."""
    objections: tuple[str, ...] = ()
    """What the scenario's own check found wrong."""
    turned: tuple[str, ...] = ()
    """Rows about which the log said something else when the watch was over; no fault of itself."""
    known: str = ""
    """Why it is known to fail."""
    scattered: int = 0
    """Truths that are one incident and were told as several, or as none."""
    seconds: float = 0.0
    """From the fault to the right record, or until the watch was over."""
    failed: str = ""
    """Why it could not be staged: its own fault, not the product's."""
    skipped: str = ""
    """The capability that this machine has not."""
    baselines: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Baseline -> what it says, and whether that is right."""
    ablation: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """What was withheld -> how the verdicts stand without it (`ablation.without_vantages`)."""
    misled: tuple[str, ...] = ()
    """Verdicts that turn wrong and sure without a part of the evidence."""

    @property
    def correct(self) -> bool:
        """Every field of every row right, and nothing else said."""
        return not (
            self.skipped
            or self.failed
            or self.missing
            or self.false_disconnects
            or self.duplicates
            or self.left_open
            or self.lost
            or self.objections
            or self.scattered
            or any(match.wrong for match in self.matches)
        )

    @property
    def name(self) -> str:
        """The scenario's, and its topology where that is not the plain one."""
        return self.scenario + (f"@{self.topology}" if self.topology != PLAIN else "")

    @property
    def fails(self) -> bool:
        """Whether it is a failure that is not known: what makes a run fail."""
        return not (self.known or self.skipped) and bool(self.misled or not self.correct)

    @property
    def wrong_and_sure(self) -> int:
        """Rows with a wrong answer that is not `unknown`."""
        return sum(1 for match in self.matches if match.wrong and not match.unknown)


def judge(
    scenario: Scenario,
    ended: Iterable[Row],
    *,
    seconds: float,
    duplicates: Iterable[str] = (),
    left_open: Iterable[str] = (),
    lost: Iterable[str] = (),
    objections: Iterable[str] = (),
    turned: Iterable[str] = (),
    baselines: Mapping[str, Mapping[str, Any]] | None = None,
) -> RunOutcome:
    """Compare the rows that ended since the fault with the scenario's truths.

    A row that is `excused`, a link that came after the fault and left in order, is no false disconnect,
    and is what a truth asks for only where there is no other.
    """
    left = list(ended)
    matches: list[Match] = []
    missing: list[Truth] = []
    scattered = 0
    for truth in scenario.truths:
        about = [row for row in left if truth.concerns(row)]
        about.sort(key=lambda row: (_excused(row), len(Match(truth, row).wrong)))
        most = sum(1 for row in about if not _excused(row)) if truth.or_more else 0
        taken = about[: max(truth.rows, most)]
        matches += [Match(truth, row) for row in taken]
        left = [row for row in left if all(row is not one for one in taken)]
        if len(taken) < truth.rows:
            missing.append(truth)
        if truth.one_incident and not _one_incident(taken):
            scattered += 1
    return RunOutcome(
        scenario=scenario.name,
        topology=scenario.place,
        control=scenario.is_control,
        tricky=scenario.tricky,
        matches=tuple(matches),
        missing=tuple(missing),
        false_disconnects=tuple(
            row
            for row in left
            if row["connect_type"] not in scenario.tolerates and not _excused(row)
        ),
        duplicates=tuple(duplicates),
        left_open=tuple(left_open),
        lost=tuple(lost),
        objections=tuple(objections),
        turned=tuple(turned),
        scattered=scattered,
        seconds=round(seconds, 2),
        baselines=baselines or {},
    )


def _excused(row: Row) -> bool:
    return bool(row.get("excused"))


def settled(scenario: Scenario, ended: Sequence[Row]) -> bool:
    """Whether the log says all of the truth already: nothing better is to be waited for."""
    outcome = judge(scenario, ended, seconds=0.0)
    return bool(scenario.truths) and outcome.correct


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """All runs together."""

    scenarios: int
    runs: int
    correct: int
    failed: int
    skipped: dict[str, str]
    fields: dict[str, tuple[int, int]]
    """Field -> right, of how many."""
    tricky: tuple[int, int]
    controls: tuple[int, int]
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
    baselines: dict[str, tuple[int, int]]
    ablation: dict[str, dict[str, int]]
    misled: int
    """Verdicts that turn wrong and sure without a part of the evidence."""


def summarize(outcomes: Sequence[RunOutcome]) -> Summary:
    """The figures over all runs."""
    ran = [one for one in outcomes if not one.skipped]
    matches = [match for one in ran for match in one.matches]
    expected_rows = len(matches) + sum(truth.rows for one in ran for truth in one.missing)
    names = (*FIELDS, "disconnect_cause")
    verdicts: dict[str, set[bool]] = {}
    for one in ran:
        verdicts.setdefault(one.name, set()).add(one.correct)
    seconds = sorted(one.seconds for one in ran if one.correct and not one.control)
    return Summary(
        scenarios=len({one.scenario for one in outcomes}),
        runs=len(ran),
        correct=sum(one.correct for one in ran),
        failed=sum(bool(one.failed) for one in ran),
        skipped={one.name: one.skipped for one in outcomes if one.skipped},
        fields={
            name: (sum(name not in match.wrong for match in matches), expected_rows)
            for name in names
        },
        tricky=_share(one for one in ran if one.tricky),
        controls=_share(one for one in ran if one.control),
        false_disconnects=sum(len(one.false_disconnects) for one in ran),
        duplicates=sum(len(one.duplicates) for one in ran),
        left_open=sum(len(one.left_open) for one in ran),
        lost=sum(len(one.lost) for one in ran),
        known=sum(bool(one.known) and not one.correct for one in ran),
        scattered=sum(one.scattered for one in ran),
        wrong_and_sure=sum(one.wrong_and_sure for one in ran),
        unknown=sum(match.unknown for match in matches),
        seconds_p50=percentile(seconds, 0.5),
        seconds_p95=percentile(seconds, 0.95),
        flaky=tuple(sorted(name for name, seen in verdicts.items() if len(seen) > 1)),
        baselines=_baselines(ran),
        ablation=_ablation(ran),
        misled=sum(len(one.misled) for one in ran),
    )


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of the sorted `values` that `share` of them do not exceed; 0 without any."""
    if not values:
        return 0.0
    return values[max(0, math.ceil(share * len(values)) - 1)]


def _share(outcomes: Iterable[RunOutcome]) -> tuple[int, int]:
    verdicts = [one.correct for one in outcomes]
    return sum(verdicts), len(verdicts)


def _baselines(outcomes: Iterable[RunOutcome]) -> dict[str, tuple[int, int]]:
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


def _one_incident(rows: Sequence[Row]) -> bool:
    ids = {row.get("incident_id") for row in rows}
    return len(ids) == 1 and None not in ids and "" not in ids
