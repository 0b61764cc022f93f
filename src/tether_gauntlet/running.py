"""Runs scenarios one after another, and gathers what is needed to score them.

That is what the log says, what others would have said, and how the verdict holds without a vantage.

Law: a scenario that cannot be staged is a failed run, never a right one; whatever happens, its world is
taken down before the next one is built.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tether_gauntlet import baselines
from tether_gauntlet.ablation import without_vantages
from tether_gauntlet.lab import Lab, LabError, probe
from tether_gauntlet.lab.stack import Row
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.scoring import Outcome, judge
from tether_gauntlet.stage import Stage

ALWAYS = ("namespaces", "veth", "nft", "ssh")


def run_all(
    scenarios: Iterable[Scenario],
    *,
    repeat: int = 1,
    twins: bool = True,
    keep: Path | None = None,
    jobs: int = 1,
    tell: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Every scenario, `repeat` times over: round by round, so that a bad minute hits many a little.

    `jobs` worlds stand at once: most of a scenario is waiting, but they share the machine's processors.
    `keep` names a folder for everything that the log has about the rows that ended, a file a scenario.
    """
    scenarios = list(scenarios)

    def one(scenario: Scenario) -> Outcome:
        outcome = run(scenario, twins=twins, keep=keep)
        tell(outcome)
        return outcome

    with ThreadPoolExecutor(jobs) as pool:
        return [o for _ in range(repeat) for o in pool.map(one, scenarios)]


def run(scenario: Scenario, *, twins: bool = True, keep: Path | None = None) -> Outcome:
    """One scenario once."""
    found = probe()
    lacking = [name for name in (*ALWAYS, *sorted(scenario.needs)) if not found[name].present]
    if lacking:
        why = "; ".join(f"{name} ({found[name].reason})" for name in lacking)
        return _not_run(scenario, skipped=why)
    try:
        with Lab(scenario.topology) as lab:
            return _staged(Stage(lab, scenario, twins=twins), keep)
    except (LabError, OSError, AssertionError, KeyError) as wrong:
        return _not_run(scenario, failed=_one_line(wrong))


def _staged(stage: Stage, keep: Path | None) -> Outcome:
    scenario = stage.scenario
    try:
        scenario.run(stage)
        ended, seconds = stage.watch()
        explained = {
            row["id"]: {**stage.explain(row), "excused": row.get("excused", False)} for row in ended
        }
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            told = json.dumps(list(explained.values()), indent=1)
            (keep / f"{scenario.name}.json").write_text(told + "\n")
        said = _baselines(stage, ended, explained)
        left_open = stage.finish()
        outcome = judge(
            scenario,
            ended,
            seconds=seconds,
            duplicates=stage.duplicates(),
            left_open=left_open,
            baselines=said,
        )
        return without_vantages(outcome, explained)
    except BaseException:
        stage.lab.heal()
        raise
    finally:
        stage.close()


def _baselines(
    stage: Stage, ended: list[Row], explained: Mapping[str, Row]
) -> dict[str, dict[str, Any]]:
    """What simpler systems say of the first row that a truth is about; of a control, whether they
    would have reported an end where there was none: nothing ended, so none of them is asked."""
    said: dict[str, dict[str, Any]] = {}
    for truth in stage.scenario.truths[:1]:
        about = next((row for row in ended if truth.concerns(row)), None)
        if about is not None:
            full = explained[about["id"]]
            said["errno"] = baselines.errno(full).scored(truth)
            said["original"] = baselines.original(full).scored(truth)
        if truth.connect_type == "agent_to_client" and stage.sshd is not None:
            said["openssh"] = baselines.openssh(stage.sshd.said()).scored(truth)
    return said


def _not_run(scenario: Scenario, *, skipped: str = "", failed: str = "") -> Outcome:
    return Outcome(
        scenario=scenario.name,
        control=scenario.is_control,
        tricky=scenario.tricky,
        skipped=skipped,
        failed=failed,
    )


def _one_line(wrong: BaseException) -> str:
    where = traceback.extract_tb(wrong.__traceback__)
    at = next((frame for frame in reversed(where) if "scenarios" in frame.filename), where[-1])
    said = str(wrong).strip().splitlines() or [type(wrong).__name__]
    return f"{said[0][:300]} (line {at.lineno} of {at.filename.rpartition('/')[2]})"
