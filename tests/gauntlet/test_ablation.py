"""Claims about verdicts that lack a part of their evidence: never wrong and sure, and counted so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tether.attribution.causes.catalogue import CATALOGUE
from tether.attribution.evidence import Evidence
from tether.attribution.examples.table import EXAMPLES
from tether.attribution.records import to_record
from tether.attribution.rules.table import RULES
from tether.server.connlog.judge import columns_of
from tether.server.times import iso
from tether_gauntlet.__main__ import main
from tether_gauntlet.ablation import COARSER, Effect, effect, judged, without_vantages
from tether_gauntlet.again import judge_again
from tether_gauntlet.report import as_markdown
from tether_gauntlet.scenario import BadScenario, Scenario, Truth
from tether_gauntlet.scoring import Match, score
from tether_gauntlet.summary import summarize

EXAMPLE = {rule.name: case for rule, case in zip(RULES, EXAMPLES, strict=True)}


def test_coarser_causes_and_those_that_they_are_true_of_are_in_the_catalogue() -> None:
    assert {code for few in COARSER.items() for code in (few[0], *few[1])} <= set(CATALOGUE)


# -- counted -----------------------------------------------------------------------------------


def truth(*causes: str, **changes: Any) -> Truth:
    known = CATALOGUE.get(causes[0])
    return Truth(
        **{
            "connect_type": "agent_to_client",
            "reason": str(known.reason) if known else "network_error",
            "initiator": str(known.initiator) if known else "network",
            "expected": bool(known and known.expected),
            "causes": frozenset(causes),
            **changes,
        }
    )


def scenario(*truths: Truth) -> Scenario:
    return Scenario(name="s", summary="", run=lambda stage: None, truths=truths, limit_s=1.0)


def explained(rule: str, *, id: str = "c", outlived: tuple[Evidence, ...] = ()) -> dict[str, Any]:
    """The example of a rule, as the log explains it."""
    case = EXAMPLE[rule]
    row: dict[str, Any] = {
        "id": id,
        "connect_type": str(case.connect_type),
        "type": "ssh",
        "evidence": [
            {
                **to_record(fact),
                "at": iso(fact.at),
                "reporter": str(fact.vantage),
                "outlived": fact in outlived,
            }
            for fact in (*case.facts, *outlived)
        ],
    }
    return {**row, **columns_of(judged(row))}


def test_a_verdict_that_needs_a_vantage_is_counted_as_what_it_is_without() -> None:
    rows = [explained("session-exited-then-closed")]
    outcome = without_vantages(
        score(scenario(truth("session.exit")), rows, seconds=1.0), {"c": rows[0]}
    )
    assert outcome.ablation == {
        "nothing": {"truths": 1, "had": 0, "right": 1},
        "client": {"truths": 1, "had": 1, "unknown": 1},
        "post-mortem": {"truths": 1, "had": 0, "right": 1},
        "relay": {"truths": 1, "had": 0, "right": 1},
        "agent": {"truths": 1, "had": 1, "true but coarser": 1},
        "server": {"truths": 1, "had": 0, "right": 1},
        "kind local_side_closed": {"truths": 1, "had": 1, "unknown": 1},
        "kind authenticated": {"truths": 1, "had": 1, "right": 1},
        "kind session_ended": {"truths": 1, "had": 1, "wrong but unsure": 1},
    }
    assert outcome.misled == ()
    assert "\n| agent | 1 | 0 of 1 (0%) | 1 | 0 | 0 | 0 |\n" in as_markdown([outcome])
    assert "\n| relay | 0 | 1 of 1 (100%) | 0 | 0 | 0 | 0 |\n" in as_markdown([outcome])


def test_a_verdict_that_turns_wrong_and_sure_is_named() -> None:
    rows = [explained("superseded")]
    true = truth("agent.superseded", connect_type="server_to_agent")
    outcome = without_vantages(score(scenario(true), rows, seconds=1.0), {"c": rows[0]})
    assert outcome.misled == (
        "server_to_agent without server: sure of agent.shutdown (rule goodbye)",
        "server_to_agent without kind superseded: sure of agent.shutdown (rule goodbye)",
    )
    assert "- s: server_to_agent without server: sure of agent.shutdown" in as_markdown([outcome])


def test_a_verdict_that_was_wrong_with_all_its_evidence_misleads_nobody_anew() -> None:
    rows = [explained("goodbye")]
    outcome = without_vantages(
        score(scenario(truth("network.path_lost")), rows, seconds=1.0), {"c": rows[0]}
    )
    assert (outcome.ablation["nothing"], outcome.misled) == (
        {"truths": 1, "had": 0, "wrong and sure": 1},
        (),
    )


def test_a_truth_about_many_rows_counts_once_as_the_worst_of_them() -> None:
    rows = [
        explained("session-exited", id="a"),
        explained("session-exited-then-closed", id="b"),
    ]
    told = score(scenario(truth("session.exit", rows=2)), rows, seconds=1.0)
    outcome = without_vantages(told, {row["id"]: row for row in rows})
    assert outcome.ablation["client"] == {"truths": 1, "had": 1, "unknown": 1}


def test_an_exit_code_that_nobody_tells_is_less_and_another_one_is_wrong() -> None:
    heard = {
        "vantage": "client",
        "reporter": "client",
        "at": iso(3.0),
        "kind": "goodbye_said",
        "values": {"by": "agent", "cause": "session.exit", "actor": "", "detail": ""},
    }
    full = explained("session-exited")
    ended = Match(truth("session.exit", exit_code=full["exit_code"]), full)
    assert effect(ended, judged({**full, "evidence": [heard]})) is Effect.COARSER
    other = Match(truth("session.exit", exit_code=99), full)
    assert effect(other, judged(full)) is Effect.SURE


def test_what_the_tunnel_outlived_is_neither_judged_nor_withheld() -> None:
    reset = EXAMPLE["relay-stream-ended"].facts
    row = explained("session-exited", outlived=reset)
    outcome = without_vantages(
        score(scenario(truth("session.exit")), [row], seconds=1.0), {"c": row}
    )
    assert outcome.ablation["relay"] == {"truths": 1, "had": 0, "right": 1}


def test_a_run_without_such_evidence_counts_as_it_stands() -> None:
    rows = [explained("session-exited-then-closed")]
    one = without_vantages(
        score(scenario(truth("session.exit")), rows, seconds=1.0), {"c": rows[0]}
    )
    other_row = explained("session-exited", id="d")
    other = without_vantages(
        score(scenario(truth("session.exit")), [other_row], seconds=1.0), {"d": other_row}
    )
    total = summarize([one, other]).ablation
    assert total["kind local_side_closed"] == {"truths": 2, "had": 1, "unknown": 1, "right": 1}


def test_answers_go_from_best_to_worst() -> None:
    assert [answer.word for answer in sorted(Effect)] == [
        "right",
        "true but coarser",
        "unknown",
        "wrong but unsure",
        "wrong and sure",
    ]


# -- judged again ------------------------------------------------------------------------------


def keep(folder: Path, *rows: dict[str, Any]) -> None:
    stale = [{**row, "disconnect_cause": "unknown", "disconnect_reason": "unknown"} for row in rows]
    (folder / "s.json").write_text(json.dumps(stale))


def test_kept_evidence_is_judged_by_the_rules_of_today(tmp_path: Path) -> None:
    keep(tmp_path, explained("session-exited"))
    [outcome] = judge_again([scenario(truth("session.exit"))], tmp_path)
    assert (outcome.correct, outcome.ablation["nothing"]["right"]) == (True, 1)


def test_a_folder_without_evidence_cannot_be_judged(tmp_path: Path) -> None:
    with pytest.raises(BadScenario, match="no evidence of these scenarios"):
        judge_again([scenario(truth("session.exit"))], tmp_path)


FILE = """
from tether_gauntlet.scenario import Scenario, Truth

SCENARIO = Scenario(
    name="s", summary="", run=lambda stage: None, limit_s=1.0,
    truths=(Truth(connect_type="{connect_type}", reason="{reason}", initiator="{initiator}",
                  expected={expected}, causes=frozenset({{"{cause}"}})),),
)
"""


@pytest.mark.parametrize(
    ("rule", "code"),
    [("session-exited", 0), ("superseded", 1)],  # right, but misled without the server
)
def test_the_command_fails_where_a_verdict_turns_wrong_and_sure(
    rule: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = explained(rule)
    (tmp_path / "one.py").write_text(
        FILE.format(
            connect_type=row["connect_type"],
            reason=row["disconnect_reason"],
            initiator=row["disconnect_initiator"],
            expected=row["disconnect_expected"],
            cause=row["disconnect_cause"],
        )
    )
    keep(tmp_path, row)
    assert main(["--scenarios", str(tmp_path), "--judge-again", str(tmp_path)]) == code
    told = capsys.readouterr().out
    assert told.startswith("right   s (0.0 s)")
    assert ("No verdict turns wrong and sure." in told) == (code == 0)


def test_the_command_says_that_there_is_nothing_to_judge(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--judge-again", str(tmp_path)]) == 2
    assert "holds no evidence" in capsys.readouterr().err
