"""The states of an agent's life, and which may follow which."""

from __future__ import annotations

from itertools import pairwise

from tether.protocol.messages.lifecycle import FINAL, LifecycleState, may_follow

S = LifecycleState


def test_the_states_are_these_in_this_order() -> None:
    assert [str(state) for state in S] == [
        "created",
        "starting",
        "start_timeout",
        "start_error",
        "ready",
        "shutting_down",
        "shutdown_timeout",
        "shutdown_error",
        "off",
    ]


def test_a_life_goes_forward_only() -> None:
    assert all(may_follow(one, other) for one, other in pairwise((S.CREATED, S.STARTING, S.READY)))
    assert may_follow(S.CREATED, S.SHUTTING_DOWN)
    assert not may_follow(S.READY, S.STARTING)
    assert not may_follow(S.READY, S.READY)
    assert not may_follow(S.SHUTTING_DOWN, S.CREATED)


def test_a_life_begins_once_and_another_one_only_after_its_end() -> None:
    assert may_follow(None, S.CREATED)
    assert [state for state in S if state is not S.CREATED and may_follow(None, state)] == []
    assert {before for before in S if may_follow(before, S.CREATED)} == FINAL
    assert [(a, b) for a in FINAL for b in S if b is not S.CREATED and may_follow(a, b)] == []
