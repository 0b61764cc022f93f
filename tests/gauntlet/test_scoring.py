"""Claims about how a run is scored: nothing that is wrong can pass for right."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tether_gauntlet.ends import came_and_left, duplicates
from tether_gauntlet.scenario import Scenario, Truth
from tether_gauntlet.scoring import (
    Match,
    RunOutcome,
    score,
    settled,
)
from tether_gauntlet.summary import percentile, summarize

KILLED = Truth(
    connect_type="agent_to_client",
    reason="process_crashed",
    initiator="client",
    expected=False,
    causes=frozenset({"client.crashed"}),
)
LINK = Truth(
    connect_type="client_to_server",
    reason="process_crashed",
    initiator="client",
    expected=False,
    causes=frozenset({"client.crashed"}),
)


def scenario(*truths: Truth, tolerates: frozenset[str] = frozenset()) -> Scenario:
    return Scenario(
        name="s",
        summary="",
        run=lambda stage: None,
        truths=truths,
        limit_s=1.0,
        tolerates=tolerates,
    )


def row(**changes: Any) -> dict[str, Any]:
    return {
        "id": "c",
        "connect_type": "agent_to_client",
        "type": "ssh",
        "disconnect_reason": "process_crashed",
        "disconnect_initiator": "client",
        "disconnect_expected": False,
        "disconnect_cause": "client.crashed",
        "incident_id": "",
        "exit_code": None,
        "exit_signal": None,
    } | changes


def test_every_field_right_is_correct() -> None:
    assert score(scenario(KILLED), [row()], seconds=2.0).correct


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("disconnect_reason", "network_error"),
        ("disconnect_initiator", "network"),
        ("disconnect_expected", True),
        ("disconnect_cause", "client.vanished"),
    ],
)
def test_one_wrong_field_is_wrong_and_named(name: str, value: object) -> None:
    outcome = score(scenario(KILLED), [row(**{name: value})], seconds=2.0)
    assert (outcome.correct, outcome.matches[0].wrong, outcome.wrong_and_sure) == (
        False,
        (name,),
        1,
    )


def test_unknown_is_wrong_but_not_sure() -> None:
    outcome = score(scenario(KILLED), [row(disconnect_reason="unknown")], seconds=2.0)
    assert (outcome.correct, outcome.wrong_and_sure) == (False, 0)


def test_an_exit_code_that_the_truth_names_has_to_be_right() -> None:
    truth = Truth(
        connect_type="agent_to_client",
        reason="graceful",
        initiator="client",
        expected=True,
        causes=frozenset({"session.exit"}),
        exit_code=3,
    )
    told = row(
        disconnect_reason="graceful",
        disconnect_expected=True,
        disconnect_cause="session.exit",
        exit_code=0,
    )
    assert Match(truth, told).wrong == ("exit_code",)


def test_an_end_that_was_not_told_is_missing() -> None:
    outcome = score(scenario(KILLED, LINK), [row()], seconds=2.0)
    assert (outcome.correct, outcome.missing) == (False, (LINK,))


def test_a_row_that_no_truth_is_about_is_a_false_disconnect() -> None:
    extra = row(connect_type="server_to_agent")
    outcome = score(scenario(KILLED), [row(), extra], seconds=2.0)
    assert (outcome.correct, outcome.false_disconnects) == (False, (extra,))


def test_a_second_row_of_the_same_kind_is_a_false_disconnect_unless_the_truth_asks_for_two() -> (
    None
):
    twice = [row(id="a"), row(id="b")]
    assert len(score(scenario(KILLED), twice, seconds=2.0).false_disconnects) == 1


def test_an_excused_link_is_no_false_disconnect_and_stands_for_a_truth_only_alone() -> None:
    lost = row(connect_type="client_to_server")
    excused = lost | {"id": "e", "disconnect_cause": "client.closed", "excused": True}
    closed = replace(LINK, causes=frozenset({"client.closed"}))
    many = replace(LINK, or_more=True)
    cases = [((), [excused]), ((LINK,), [excused, lost]), ((closed,), [excused])]
    cases += [((many,), [excused, lost])]
    assert [score(scenario(*truths), rows, seconds=1.0).correct for truths, rows in cases] == [
        True
    ] * 4
    wrong = score(scenario(closed), [excused, lost], seconds=1.0)
    assert [match.row["id"] for match in wrong.matches if match.wrong] == ["c"]


def test_where_nothing_may_be_reported_anything_is_wrong() -> None:
    assert score(scenario(), [], seconds=9.0).correct
    assert not score(scenario(), [row()], seconds=9.0).correct


def test_what_is_tolerated_is_not_scored() -> None:
    storm = scenario(KILLED, tolerates=frozenset({"server_to_agent"}))
    assert score(storm, [row(), row(connect_type="server_to_agent")], seconds=2.0).correct


@pytest.mark.parametrize(
    ("ids", "correct"), [(("i", "i"), True), (("i", "j"), False), (("", ""), False)]
)
def test_one_incident_has_one_id(ids: tuple[str, str], correct: bool) -> None:
    truth = Truth(
        connect_type="agent_to_client",
        reason="process_crashed",
        initiator="client",
        expected=False,
        causes=frozenset({"client.crashed"}),
        rows=2,
        one_incident=True,
    )
    rows = [
        row(connection_id=name, incident_id=name_id)
        for name, name_id in zip("ab", ids, strict=True)
    ]
    assert score(scenario(truth), rows, seconds=2.0).correct is correct


def test_a_control_scenario_is_never_settled_early() -> None:
    assert (settled(scenario(), []), settled(scenario(KILLED), [row()])) == (False, True)


def test_a_second_line_for_the_same_end_is_a_duplicate() -> None:
    end = {"connection_id": "c", "event": "ssh connection closed", "disconnect_reason": "graceful"}
    other = {"connection_id": "c", "event": "tunnel opened"}
    assert duplicates([end, other, {**end, "connection_id": "d"}]) == []
    assert duplicates([end, other, end]) == ["c"]


def test_the_figures_count_fields_over_all_rows_that_should_have_been_told() -> None:
    right = score(scenario(KILLED), [row()], seconds=2.0)
    wrong = score(scenario(KILLED), [row(disconnect_initiator="network")], seconds=4.0)
    missing = score(scenario(KILLED), [], seconds=9.0)
    total = summarize([right, wrong, missing])
    assert (total.correct, total.runs, total.flaky) == (1, 3, ("s",))
    assert total.fields == {
        "disconnect_reason": (2, 3),
        "disconnect_initiator": (1, 3),
        "disconnect_expected": (2, 3),
        "disconnect_cause": (2, 3),
    }


def test_what_was_skipped_or_could_not_be_staged_is_never_right() -> None:
    skipped = RunOutcome(scenario="a", control=False, tricky=False, skipped="nft")
    failed = RunOutcome(scenario="b", control=True, tricky=False, failed="no server")
    total = summarize([skipped, failed])
    assert (skipped.correct, failed.correct) == (False, False)
    assert (total.runs, total.correct, total.failed, total.skipped) == (1, 0, 1, {"a": "nft"})


def test_percentiles_are_values_that_were_seen() -> None:
    values = [1.0, 2.0, 3.0, 4.0]
    assert [percentile(values, share) for share in (0.5, 0.95, 1.0)] == [2.0, 4.0, 4.0]
    assert percentile([], 0.5) == 0.0


@pytest.mark.parametrize(
    ("changes", "links", "excused"),
    [
        ({}, {"before": "one", "c": "one"}, True),
        ({}, {"before": "one", "c": "two"}, True),
        ({}, {}, True),
        ({}, {"before": "one", "c": "one", "after": "two"}, True),
        ({}, {"before": "one", "c": "one", "after": "one"}, False),
        ({"disconnect_cause": "client.vanished"}, {"c": "one"}, False),
        ({"connect_type": "agent_to_client"}, {}, False),
    ],
    ids=[
        "the client came back to report",
        "a command of the harness's own",
        "a link that was never welcomed",
        "and another client came later",
        "a client that left and came again",
        "any other end",
        "a session",
    ],
)
def test_a_link_that_began_after_the_fault_is_excused_only_if_its_client_left_for_good(
    changes: dict[str, Any], links: dict[str, str], excused: bool
) -> None:
    link = row(connect_type="client_to_server", disconnect_cause="client.closed") | changes
    assert came_and_left(link, links) is excused


def test_a_session_that_is_lost_where_it_should_live_is_wrong_and_counted() -> None:
    outcome = score(scenario(), [], seconds=1.0, lost=["ssh0 exited 255; its row is open"])
    assert (outcome.correct, summarize([outcome]).lost) == (False, 1)


def test_what_is_known_to_fail_is_wrong_all_the_same_and_fails_no_run() -> None:
    outcome = replace(score(scenario(KILLED), [], seconds=1.0), known="nobody tells")
    assert (outcome.correct, outcome.fails, summarize([outcome]).known) == (False, False, 1)
