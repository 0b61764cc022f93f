"""A token bucket: so much at once, and so much a second from then on.

Law: no clock; the present (monotonic seconds) is an argument. The three ways to ask are for three kinds
of callers: `try_take` refuses what is not there, `take` runs into debt and says how long to pause,
`wait_s` only looks.
"""

from __future__ import annotations


class TokenBucket:
    """Holds at most `burst` tokens, is full at the start, and gains `per_s` a second."""

    def __init__(self, *, burst: float, per_s: float, now: float) -> None:
        self._burst = float(burst)
        self._per_s = per_s
        self._tokens = float(burst)  # at `_at`; negative while in debt
        self._at = now

    def try_take(self, now: float, amount: float = 1.0) -> bool:
        """Take `amount` if it is there; whether it was."""
        self._refill(now)
        if self._tokens < amount:
            return False
        self._tokens -= amount
        return True

    def take(self, now: float, amount: float) -> float:
        """Take `amount`, there or not; how many seconds to pause before more is taken."""
        self._refill(now)
        self._tokens -= amount
        return max(0.0, -self._tokens / self._per_s)

    def wait_s(self, now: float, amount: float = 1.0) -> float:
        """In how many seconds `amount` can be taken without a pause; 0 for now."""
        self._refill(now)
        return max(0.0, (amount - self._tokens) / self._per_s)

    def _refill(self, now: float) -> None:
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._per_s)
        self._at = now


class TokenBuckets:
    """A bucket for each key; of more than `most` keys the one that was used longest ago is forgotten."""

    def __init__(self, *, burst: float, per_s: float, most: int) -> None:
        self._burst = burst
        self._per_s = per_s
        self._most = most
        self._buckets: dict[str, TokenBucket] = {}  # in the order of use

    def of(self, key: str, now: float) -> TokenBucket:
        """The bucket of `key`; a full one for a key that is new or was forgotten."""
        bucket = self._buckets.pop(key, None)
        if bucket is None:
            bucket = TokenBucket(burst=self._burst, per_s=self._per_s, now=now)
        self._buckets[key] = bucket
        if len(self._buckets) > self._most:
            del self._buckets[next(iter(self._buckets))]
        return bucket
