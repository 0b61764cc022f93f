"""A token bucket: it refuses, makes wait, or tells."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from tether.protocol.token_bucket import TokenBucket, TokenBuckets


def test_a_burst_is_there_at_once_and_then_a_steady_rate() -> None:
    bucket = TokenBucket(burst=3, per_s=2.0, now=0.0)
    assert [bucket.try_take(0.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.try_take(0.5), bucket.try_take(0.5)] == [True, False]


def test_what_is_not_used_is_kept_up_to_the_burst() -> None:
    bucket = TokenBucket(burst=2, per_s=1.0, now=0.0)
    assert [bucket.try_take(100.0) for _ in range(3)] == [True, True, False]
    assert [bucket.take(1000.0, 2), bucket.take(1000.0, 1)] == [0.0, 1.0]


def test_larger_requests_cost_more() -> None:
    bucket = TokenBucket(burst=10, per_s=1.0, now=0.0)
    assert [bucket.try_take(0.0, amount) for amount in (9, 2, 1)] == [True, False, True]


def test_what_is_beyond_a_burst_makes_its_taker_pause() -> None:
    bucket = TokenBucket(burst=5, per_s=10, now=0)
    assert [bucket.take(0, 1) for _ in range(7)] == [0, 0, 0, 0, 0, 0.1, 0.2]


def test_it_says_when_something_can_be_had_and_takes_nothing() -> None:
    bucket = TokenBucket(burst=4, per_s=8, now=0)
    bucket.take(0, 4)
    assert [bucket.wait_s(at) for at in (0, 0.0625, 0.125, 0.125)] == [0.125, 0.0625, 0.0, 0.0]


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=50))
def test_who_pauses_as_told_keeps_the_pace(amounts: list[float]) -> None:
    bucket, now = TokenBucket(burst=50, per_s=100, now=0), 0.0
    for amount in amounts:
        now += bucket.take(now, amount)
    assert now == pytest.approx(max(0.0, (sum(amounts) - 50) / 100), abs=1e-6)


def test_each_key_has_a_bucket_and_the_one_that_was_used_longest_ago_is_forgotten() -> None:
    buckets = TokenBuckets(burst=1, per_s=0.001, most=2)
    taken = [buckets.of(key, 0.0).try_take(0.0) for key in ("a", "b", "a", "c", "a", "b")]
    assert taken == [True, True, False, True, False, True]
