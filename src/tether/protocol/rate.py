"""How often a peer may ask: a bucket that fills steadily.

Law: no clock; the present is an argument.
"""

from __future__ import annotations


class RateLimit:
    """Takes `burst` at once, and `per_s` each second from then on."""

    def __init__(self, *, burst: int, per_s: float, now: float) -> None:
        self._burst, self._per_s = float(burst), per_s
        self._left, self._at = float(burst), now

    def allows(self, now: float, cost: float = 1.0) -> bool:
        """Whether one more may be taken at `now` (monotonic seconds); if so, it is."""
        self._left = min(self._burst, self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < cost:
            return False
        self._left -= cost
        return True
