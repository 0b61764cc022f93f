"""The one place that reads the real clock. Everything else is handed a `Clock`."""

from __future__ import annotations

import time
from typing import Protocol

from tether.protocol.instant import Instant


class Clock(Protocol):
    """Where `Instant`s come from. Tests bring their own."""

    def now(self) -> Instant: ...


class SystemClock:
    """CLOCK_MONOTONIC for deadlines, CLOCK_REALTIME for people."""

    def now(self) -> Instant:
        return Instant(mono=time.monotonic(), wall=time.time())
