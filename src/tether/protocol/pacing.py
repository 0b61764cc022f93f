"""How fast something may go: a token bucket that may run into debt, and says how long to pause.

Law: no clock; the present is an argument. Nothing is refused or dropped here: whoever takes more than
there is waits, and so slows its own source.
"""

from __future__ import annotations


class TokenBucket:
    """`per_s` a second, and `burst` at once."""

    def __init__(self, *, per_s: float, burst: float, now: float) -> None:
        self._per_s, self._burst = per_s, burst
        self._left, self._at = burst, now

    def take(self, amount: float, now: float) -> float:
        """Take `amount`; seconds to pause before more is taken, 0 for none."""
        self._left = min(self._burst, self._left + (now - self._at) * self._per_s) - amount
        self._at = now
        return max(0.0, -self._left / self._per_s)

    def has(self, amount: float, now: float) -> bool:
        """Whether `amount` can be taken without a pause."""
        return self._left + (now - self._at) * self._per_s >= amount
