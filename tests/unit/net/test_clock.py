"""The real clock, in the one place that reads it."""

from __future__ import annotations

import time

from tether.net.clock import SystemClock


def test_the_system_clock_tells_both_times() -> None:
    clock = SystemClock()
    before = (time.monotonic(), time.time())
    now, later = clock.now(), clock.now()
    assert before[0] <= now.mono <= later.mono <= time.monotonic()
    assert before[1] - 1 <= now.wall <= time.time() + 1
