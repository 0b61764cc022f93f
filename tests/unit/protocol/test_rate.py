"""How often a peer may ask."""

from __future__ import annotations

from tether.protocol.rate import RateLimit


def test_a_burst_is_allowed_and_then_a_steady_rate() -> None:
    limit = RateLimit(burst=3, per_s=2.0, now=0.0)
    assert [limit.allows(0.0) for _ in range(4)] == [True, True, True, False]
    assert [limit.allows(0.5), limit.allows(0.5)] == [True, False]


def test_what_is_not_used_is_kept_up_to_the_burst() -> None:
    limit = RateLimit(burst=2, per_s=1.0, now=0.0)
    assert [limit.allows(100.0) for _ in range(3)] == [True, True, False]


def test_larger_requests_cost_more() -> None:
    limit = RateLimit(burst=10, per_s=1.0, now=0.0)
    assert (limit.allows(0.0, cost=9), limit.allows(0.0, cost=2), limit.allows(0.0)) == (
        True,
        False,
        True,
    )
