"""One moment, on two clocks. Machines are handed it; they never read a clock themselves."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timestamp:
    """`mono` (seconds, never steps) is for deadlines; `wall` (unix seconds) is for people."""

    mono: float
    wall: float
