"""When to dial again: exponential backoff by phase, reset only by a *useful* connection.

Law: no clock and no randomness of its own; the caller passes the jitter. A connection that was accepted
and rejected at once does not reset the backoff, or all dialled again at once for ever (coder#12923).
"""

from __future__ import annotations

USEFUL_AFTER_S = 10.0
"""A connection that lived this long was useful."""


class Backoff:
    """Delays that double, from `first` to `most` seconds."""

    def __init__(self, *, first: float = 0.1, most: float = 10.0) -> None:
        self._first = first
        self._most = most
        self._failures = 0  # since the last useful connection

    def lived(self, seconds: float) -> None:
        """The last connection lived for so long; 0 for a dial that failed."""
        self._failures = 0 if seconds >= USEFUL_AFTER_S else self._failures + 1

    def delay(self, jitter: float, hint_s: float = 0.0) -> float:
        """Seconds to wait now.

        Args:
            jitter: a random number in [0, 1), which takes off up to half of the delay.
            hint_s: the peer's `retry_after_s`; the delay is at least this.
        """
        doubled: float = min(self._most, self._first * 2.0 ** min(max(self._failures - 1, 0), 30))
        return max(doubled * (1.0 - jitter / 2.0), hint_s)
