"""Judges the kept evidence of an earlier run again, by the rules of today.

Law: reads files, starts nothing, and so cannot tell what only a live run can: ends that were logged
twice, rows that were left open, how long it took. The reports of each row are heard in every order, and
its single facts in some; if the order changes the cause, that is a fault.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tether.server.connlog.judge import columns_of
from tether_gauntlet.ablation import by_order, judged, without_vantages
from tether_gauntlet.scenario import BadScenario, Scenario
from tether_gauntlet.scoring import RunOutcome, score


def judge_again(scenarios: Iterable[Scenario], folder: Path) -> list[RunOutcome]:
    """The outcomes of those scenarios whose evidence lies in `folder` (`--keep-evidence`).

    Raises:
        BadScenario: the folder holds no evidence of any of them.
    """
    outcomes = [
        again(scenario, folder / f"{scenario.full_name}.json")
        for scenario in scenarios
        if (folder / f"{scenario.full_name}.json").is_file()
    ]
    if not outcomes:
        raise BadScenario(f"{folder} holds no evidence of these scenarios")
    return outcomes


def again(scenario: Scenario, kept: Path) -> RunOutcome:
    """One scenario's outcome, by its kept evidence."""
    explained = [{**row, **columns_of(judged(row))} for row in json.loads(kept.read_text())]
    orders = ((row, by_order(row)) for row in explained)
    outcome = score(
        scenario,
        explained,
        seconds=0.0,
        objections=[
            f"{row['connect_type']}: the order of reports decides between {' and '.join(causes)}"
            for row, causes in orders
            if len(causes) > 1
        ],
    )
    return without_vantages(outcome, {row["id"]: row for row in explained})
