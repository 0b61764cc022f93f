"""How often an address may fail to authenticate.

Law: only failures count. A valid token is never turned away for what its neighbours behind one NAT do;
tokens have 256 random bits, so this spares the server and its log, it does not guard against
guessing. The table is bounded: the address that failed longest ago is forgotten first.
"""

from __future__ import annotations

import math

from tether.net.clock import Clock

BURST = 20
REFILL_PER_S = 0.5
MAX_ADDRESSES = 10_000


class FailureThrottle:
    """A bucket of failures for each address."""

    def __init__(
        self,
        clock: Clock,
        burst: int = BURST,
        refill_per_s: float = REFILL_PER_S,
        max_addresses: int = MAX_ADDRESSES,
    ) -> None:
        self._clock = clock
        self._burst = burst
        self._refill_per_s = refill_per_s
        self._max_addresses = max_addresses
        self._left: dict[str, tuple[float, float]] = {}

    def failed(self, address: str) -> int:
        """Note one failure from `address`.

        Returns:
            0 while it may go on; otherwise after how many seconds it may fail again.
        """
        now = self._clock.now().mono
        left, at = self._left.pop(address, (float(self._burst), now))
        left = min(float(self._burst), left + (now - at) * self._refill_per_s)
        allowed = left >= 1
        self._left[address] = (left - 1 if allowed else left, now)
        if len(self._left) > self._max_addresses:
            del self._left[next(iter(self._left))]
        return 0 if allowed else math.ceil((1 - left) / self._refill_per_s)
