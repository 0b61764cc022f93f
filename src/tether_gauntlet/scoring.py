"""Compares the log with the truth.

Law: pure. Rows and truths in, an outcome out. Every row that ended counts: one that no truth is about is
a false disconnect, a second log line for one end is a duplicate, and one that should have ended and did
not is left open. A field is right or it is not. `unknown` is wrong; another wrong answer is worse, since
it claims to know; both are counted.
"""

from __future__ import annotations

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
        """Whether it makes the whole run fail: it is wrong, and not known to be."""
        return not (self.known or self.skipped) and bool(self.misled or not self.correct)

    @property
    def wrong_and_sure(self) -> int:
        """Rows with a wrong answer that is not `unknown`."""
        return sum(1 for match in self.matches if match.wrong and not match.unknown)


def score(
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
    """Compare the rows that ended since the fault with the scenario's truths."""
    left = list(ended)
    matches: list[Match] = []
    missing: list[Truth] = []
    scattered = 0
    for truth in scenario.truths:
        taken = _taken(truth, left)
        matches += [Match(truth, row) for row in taken]
        left = [row for row in left if all(row is not one for one in taken)]
        if len(taken) < truth.rows:
            missing.append(truth)
        scattered += truth.one_incident and not _one_incident(taken)
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


def _taken(truth: Truth, rows: Iterable[Row]) -> list[Row]:
    """The rows that a truth is about, as many as it asks for, the best ones first. A row that is
    excused (a link that came after the fault and left in order) is taken only where there is no other.
    """
    about = [row for row in rows if truth.concerns(row)]
    about.sort(key=lambda row: (_excused(row), len(Match(truth, row).wrong)))
    most = sum(not _excused(row) for row in about) if truth.or_more else 0
    return about[: max(truth.rows, most)]


def _one_incident(rows: Sequence[Row]) -> bool:
    ids = {row.get("incident_id") for row in rows}
    return len(ids) == 1 and None not in ids and "" not in ids


def _excused(row: Row) -> bool:
    return bool(row.get("excused"))


def settled(scenario: Scenario, ended: Sequence[Row]) -> bool:
    """Whether the log says all of the truth already, so that there is nothing to wait for."""
    outcome = score(scenario, ended, seconds=0.0)
    return bool(scenario.truths) and outcome.correct
