"""When to dial again."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from tether.protocol.backoff import USEFUL_AFTER_S, Backoff


def after(failures: int, **of: float) -> Backoff:
    backoff = Backoff(**of)
    for _ in range(failures):
        backoff.lived(0.0)
    return backoff


@pytest.mark.parametrize(
    ("failures", "delay"),
    [(0, 0.1), (1, 0.1), (2, 0.2), (3, 0.4), (7, 6.4), (8, 10.0), (9, 10.0), (5000, 10.0)],
)
def test_delays_double_up_to_the_most(failures: int, delay: float) -> None:
    assert after(failures).delay(0.0) == pytest.approx(delay)


def test_the_jitter_shaves_off_up_to_half() -> None:
    assert after(3).delay(0.5) == pytest.approx(0.3)
    assert after(3).delay(0.999_999) == pytest.approx(0.2, rel=1e-3)


@pytest.mark.parametrize(("lived", "delay"), [(USEFUL_AFTER_S, 0.1), (USEFUL_AFTER_S - 0.01, 3.2)])
def test_only_a_useful_connection_resets_the_delay(lived: float, delay: float) -> None:
    backoff = after(5)
    backoff.lived(lived)
    assert backoff.delay(0.0) == pytest.approx(delay)


def test_the_peers_hint_is_the_least() -> None:
    assert after(1).delay(0.0, hint_s=4.0) == 4.0
    assert after(20).delay(0.0, hint_s=4.0) == 10.0


def test_a_hint_of_never_does_not_shorten_the_delay() -> None:
    assert after(2).delay(0.0, hint_s=-1.0) == pytest.approx(0.2)


@given(
    st.lists(st.floats(0, 100), max_size=50),
    st.floats(0, 1, exclude_max=True),
    st.floats(0.01, 1),
    st.floats(1, 60),
)
def test_a_delay_is_always_within_its_bounds(
    lives: list[float], jitter: float, first: float, most: float
) -> None:
    backoff = Backoff(first=first, most=most)
    for lived in lives:
        backoff.lived(lived)
    assert first / 2 <= backoff.delay(jitter) <= most
