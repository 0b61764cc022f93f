"""A token bucket that pauses its taker, and drops nothing."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from tether.protocol.pacing import TokenBucket


def test_a_burst_goes_at_once_and_what_is_beyond_it_waits() -> None:
    pace = TokenBucket(per_s=10, burst=5, now=0)
    assert [pace.take(1, now=0) for _ in range(7)] == [0, 0, 0, 0, 0, 0.1, 0.2]


def test_what_was_not_used_is_kept_up_to_the_burst() -> None:
    pace = TokenBucket(per_s=10, burst=5, now=0)
    assert pace.take(5, now=0) == 0
    assert pace.take(5, now=1000) == 0
    assert pace.take(1, now=1000) == 0.1


def test_it_says_whether_something_can_be_had_without_a_pause() -> None:
    pace = TokenBucket(per_s=10, burst=5, now=0)
    pace.take(5, now=0)
    assert [pace.has(1, now=at) for at in (0, 0.09, 0.1)] == [False, False, True]


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=50))
def test_who_pauses_as_told_keeps_the_pace(amounts: list[float]) -> None:
    pace, now = TokenBucket(per_s=100, burst=50, now=0), 0.0
    for amount in amounts:
        now += pace.take(amount, now)
    assert now == pytest.approx(max(0.0, (sum(amounts) - 50) / 100), abs=1e-6)
