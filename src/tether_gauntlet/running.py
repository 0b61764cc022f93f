"""Runs scenarios, and gathers what is needed to score them.

That is what the log says, what simpler systems would have said, and what becomes of the verdicts
without a part of the evidence.

Law: a scenario that cannot be staged is a failed run, never a right one, and does not stop the others; a
session that is lost where it should live is a wrong outcome. Whatever happens, a scenario's world is
taken down at its end.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

from tether_gauntlet import baselines
from tether_gauntlet.ablation import without_vantages
from tether_gauntlet.lab.building import Lab
from tether_gauntlet.lab.capabilities import probe
from tether_gauntlet.lab.stack import Row
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.scoring import RunOutcome, score
from tether_gauntlet.sessions import SessionLost
from tether_gauntlet.stage import Stage
from tether_gauntlet.watch import LogWatch

ALWAYS = ("namespaces", "veth", "nft", "ssh")


def run_all(
    scenarios: Iterable[Scenario],
    *,
    repeat: int = 1,
    twins: bool = True,
    keep: Path | None = None,
    jobs: int = 1,
    tell: Callable[[RunOutcome], None] = lambda outcome: None,
) -> None:
    """Run every scenario `repeat` times, round by round: a bad minute then hits many scenarios a little.

    Args:
        scenarios: as they are placed (`Scenario.placed`).
        jobs: how many run at once. Most of a scenario is waiting, but they share the machine's CPUs.
        keep: a folder for everything that the log has about the rows that ended, one file a scenario.
        tell: is called with every outcome, one at a time.
    """
    scenarios, telling = list(scenarios), Lock()

    def one(scenario: Scenario) -> None:
        outcome = run(scenario, twins=twins, keep=keep)
        with telling:
            tell(outcome)

    with ThreadPoolExecutor(jobs) as pool:
        try:
            for _ in range(repeat):
                list(pool.map(one, scenarios))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def run(scenario: Scenario, *, twins: bool = True, keep: Path | None = None) -> RunOutcome:
    """One scenario once."""
    found = probe()
    lacking = [name for name in (*ALWAYS, *sorted(scenario.needs)) if not found[name].present]
    if lacking:
        why = "; ".join(f"{name} ({found[name].reason})" for name in lacking)
        return _not_run(scenario, skipped=why)
    try:
        with Lab(scenario.topology) as lab:
            stage = Stage(lab, scenario.middlebox, direct=scenario.direct, twins=twins)
            return _staged(scenario, stage, keep)
    except Exception as wrong:  # a scenario is anybody's code: its errors are its outcome
        return _not_run(scenario, failed=_one_line(wrong))


def _staged(scenario: Scenario, stage: Stage, keep: Path | None) -> RunOutcome:
    watch = LogWatch(stage, scenario)
    try:
        lost = _played(scenario, stage)
        watched, seconds = watch.until_over()
        ended = watch.after_return(watched)
        lost += watch.lost_sessions() if not lost else []
        explained = {
            row["id"]: {**stage.explain(row), "excused": row.get("excused", False)} for row in ended
        }
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            told = json.dumps(list(explained.values()), indent=1)
            (keep / f"{scenario.full_name}.json").write_text(told + "\n")
        objections = list(scenario.check(stage)) if scenario.check is not None else []
        said = _baselines(scenario, stage, ended, explained)
        left_open = stage.finish()
        outcome = score(
            scenario,
            ended,
            seconds=seconds,
            duplicates=stage.duplicates(),
            left_open=left_open,
            lost=lost,
            objections=objections,
            turned=_turned(watched, ended),
            baselines=said,
        )
        return without_vantages(outcome, explained)
    finally:
        stage.close()


def _played(scenario: Scenario, stage: Stage) -> list[str]:
    """Run the scenario; the sessions that it found lost after its fault (one at most)."""
    try:
        scenario.run(stage)
    except SessionLost as wrong:
        if not stage.faulted_at:
            raise
        return [str(wrong)]
    return []


def _turned(watched: Iterable[Row], ended: Iterable[Row]) -> list[str]:
    """What the log said when the watch was over and no longer says now that all have returned."""
    now = {row["id"]: row["disconnect_cause"] for row in ended}
    return [
        f"{row['connect_type']} was {row['disconnect_cause']} until all had returned"
        for row in watched
        if now.get(row["id"]) != row["disconnect_cause"]
    ]


def _baselines(
    scenario: Scenario, stage: Stage, ended: Sequence[Row], explained: Mapping[str, Row]
) -> dict[str, dict[str, Any]]:
    """What simpler systems say of the first row that a truth is about. Where nothing may be reported
    nothing ended, so they are not asked."""
    said: dict[str, dict[str, Any]] = {}
    for truth in scenario.truths[:1]:
        about = next((row for row in ended if truth.concerns(row)), None)
        if about is not None:
            full = explained[about["id"]]
            said["errno"] = baselines.errno(full).scored(truth)
            said["original"] = baselines.original(full).scored(truth)
        if truth.connect_type == "agent_to_client" and stage.sshd is not None:
            said["openssh"] = baselines.openssh(stage.sshd.said()).scored(truth)
    return said


def _not_run(scenario: Scenario, *, skipped: str = "", failed: str = "") -> RunOutcome:
    return RunOutcome(
        scenario=scenario.name,
        topology=scenario.place,
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
