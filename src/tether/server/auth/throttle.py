"""How often an address may fail to authenticate.

Law: only failures count. A valid token is never turned away for what its neighbours behind one NAT do;
tokens have 256 random bits, so this spares the server and its log, it does not guard against
guessing. The table is bounded: the address that failed longest ago is forgotten first.
"""

from __future__ import annotations

import math

from tether.net.clock import Clock
from tether.protocol.token_bucket import TokenBuckets

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
        self._buckets = TokenBuckets(burst=burst, per_s=refill_per_s, most=max_addresses)

    def failed(self, address: str) -> int:
        """Note one failure from `address`.

        Returns:
            0 while it may go on; otherwise after how many seconds it may fail again.
        """
        now = self._clock.now().mono
        bucket = self._buckets.of(address, now)
        return 0 if bucket.try_take(now) else math.ceil(bucket.wait_s(now))
