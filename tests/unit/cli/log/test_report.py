"""The breakdown as lines of a terminal: bars to compare, and what was unexpected within them."""

from __future__ import annotations

from typing import Any

import pytest

from tether.cli.log.report import BAR, bar, differences, paragraphs


def group(value: str, ends: int, unexpected: int = 0) -> dict[str, Any]:
    return {
        "value": value,
        "ends": ends,
        "expected": ends - unexpected,
        "unexpected": unexpected,
        "unknown": 0,
    }


@pytest.mark.parametrize(
    ("one", "drawn"),
    [
        (group("x", 100), "█" * BAR),
        (group("x", 50), "█" * (BAR // 2)),
        (group("x", 1), "█"),
        (group("x", 100, 50), "█" * (BAR // 2) + "▒" * (BAR // 2)),
        (group("x", 100, 1), "█" * (BAR - 1) + "▒"),
        (group("x", 1, 1), "▒"),
    ],
)
def test_a_bar_is_as_long_as_its_share_and_shows_all_that_was_unexpected(
    one: dict[str, Any], drawn: str
) -> None:
    assert bar(one, 100) == drawn


def test_the_breakdown_line_by_line() -> None:
    told = {
        "ends": 5,
        "expected": 3,
        "unexpected": 2,
        "unknown": 1,
        "unknown_rate": 0.2,
        "incidents": 1,
        "mean_duration_s": 61.0,
        "by": {
            "cause": [group("session.exit", 3), group("unknown", 2, 2)],
            "relay": [group("", 5, 2)],
            "day": [],
        },
    }
    assert list(paragraphs(told, ("cause", "relay", "day"))) == [
        "5 ends: 3 expected, 2 unexpected, 1 unexplained (20.0 %)",
        "1 incident; a connection lived 1 min 1 s on average",
        "",
        "By cause  (█ expected, ▒ unexpected)",
        f"  session.exit  {'█' * 30}  3",
        f"  unknown       {'▒' * 20:<30}  2",
        "",
        "By relay  (█ expected, ▒ unexpected)",
        f"  no relay  {'█' * 18 + '▒' * 12}  5",
    ]


def test_nothing_is_said_of_nothing() -> None:
    assert list(paragraphs({"ends": 0}, ("cause",))) == ["No such ends."]


def test_what_todays_rules_say_otherwise() -> None:
    change = {
        "connection_id": "a1" * 16,
        "was": "relay.crashed",
        "was_rule": "old",
        "now": "agent.vanished",
        "now_rule": "agent-stream-ended",
        "was_expected": False,
        "now_expected": False,
    }
    planned = {**change, "now": "server.deploy", "now_rule": "goodbye", "now_expected": True}
    told = {"judged": 9, "changed": 3, "written": False, "changes": [change, planned]}
    assert list(differences(told)) == [
        "a1a1a1a1  relay.crashed → agent.vanished  (rule old → agent-stream-ended)",
        "a1a1a1a1  relay.crashed → server.deploy  (rule old → goodbye), now expected",
        "… and 1 more",
        "9 ends judged again, 3 judged otherwise; nothing was written: add --write",
    ]
    assert list(differences({**told, "changed": 2, "written": True}))[-1].endswith("as revisions")
