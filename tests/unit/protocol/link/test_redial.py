"""What follows a dial: one example for each row of the table, in its order, and the waits between."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tether.protocol.link.redial import (
    EARLY_MOST_S,
    EARLY_S,
    RULES,
    TOKEN_REJECTIONS,
    Attempt,
    AwaitToken,
    DialAgain,
    Dismissed,
    NextStep,
    Redial,
    Stopped,
    TokenRejected,
)
from tether.protocol.messages.control import Goodbye

FOR_EVER = Goodbye(cause="workspace.deleted", retry_after_s=-1.0)
EXAMPLES: list[tuple[Attempt, NextStep]] = [
    (
        Attempt(status=401, code="token_expired", message="it ran out", token_may_change=True),
        AwaitToken("it ran out"),
    ),
    (
        Attempt(status=401, code="token_revoked", message="this token was revoked", leaving=True),
        TokenRejected("this token was revoked"),
    ),
    (Attempt(goodbye=FOR_EVER, leaving=True, wanted=False), Dismissed(FOR_EVER)),
    (Attempt(leaving=True, lived_s=60.0), Stopped()),
    (Attempt(wanted=False), Stopped()),
    (Attempt(message="nothing listens"), DialAgain(0.1)),
]


@pytest.mark.parametrize("row", range(len(RULES)), ids=lambda row: RULES[row].when)
def test_each_row_decides_its_example(row: int) -> None:
    attempt, step = EXAMPLES[row]
    assert next(rule for rule in RULES if rule.holds(attempt)) is RULES[row]
    assert Redial().after(attempt, 0.0) == step


@pytest.mark.parametrize("code", sorted(TOKEN_REJECTIONS))
def test_a_token_that_the_server_rejects_ends_the_dialling(code: str) -> None:
    attempt = Attempt(status=401, code=code, message="no")
    assert Redial().after(attempt, 0.0) == TokenRejected("no")


@pytest.mark.parametrize(
    ("status", "code"), [(401, ""), (403, "token_revoked"), (404, ""), (503, "token_unknown")]
)
def test_a_refusal_by_somebody_in_between_does_not(status: int, code: str) -> None:
    assert Redial().after(Attempt(status=status, code=code), 0.0) == DialAgain(0.1)


def test_failed_dials_are_backed_off_up_to_the_cap() -> None:
    redial = Redial()
    steps = [redial.after(Attempt(), 0.0) for _ in range(60)]
    waits = [step.wait_s for step in steps if isinstance(step, DialAgain)]
    assert waits[:6] == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0]
    assert set(waits[6:]) == {2.0, 10.0}
    assert sum(wait for wait in waits if wait < 10.0) == pytest.approx(EARLY_S, abs=EARLY_MOST_S)


def test_the_cap_is_for_the_caller_to_choose() -> None:
    redial = Redial(first_s=0.5, most_s=2.0)
    steps = [redial.after(Attempt(), 0.0) for _ in range(4)]
    assert steps == [DialAgain(s) for s in (0.5, 1.0, 2.0, 2.0)]


def test_a_link_that_is_dropped_at_once_does_not_reset_the_backoff_and_a_useful_one_does() -> None:
    redial = Redial()
    lives = (0.0, 1.0, 1.0, 3600.0)
    steps = [redial.after(Attempt(lived_s=lived_s), 0.0) for lived_s in lives]
    assert steps == [DialAgain(s) for s in (0.1, 0.2, 0.4, 0.1)]


@pytest.mark.parametrize("lived_s", [0.0, 3600.0], ids=["instead of a welcome", "at the end"])
def test_the_servers_hint_is_obeyed(lived_s: float) -> None:
    goodbye = Goodbye(cause="agent.superseded", retry_after_s=60.0)
    assert Redial().after(Attempt(goodbye=goodbye, lived_s=lived_s), 0.9) == DialAgain(60.0)


def test_a_program_that_was_welcomed_waits_for_another_token() -> None:
    refused = Attempt(status=401, code="token_revoked", message="no", token_may_change=True)
    assert Redial().after(refused, 0.0) == AwaitToken("no")
    deleted = replace(refused, code="workspace_deleted")
    assert Redial().after(deleted, 0.0) == TokenRejected("no")
    leaving = replace(refused, leaving=True)
    assert Redial().after(leaving, 0.0) == TokenRejected("no")


def test_a_token_of_another_kind_is_refused_for_good() -> None:
    refused = Attempt(status=403, code="wrong_token", message="no", token_may_change=True)
    assert Redial().after(refused, 0.0) == TokenRejected("no")
