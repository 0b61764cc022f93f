"""How long a stream was idle when it ended, and how long it had been idle at most before and lived on.

Law: no clock; moments (monotonic seconds) go in. Idle means that nothing went in either direction. What
was sent and never answered did not end an idle time, because a middlebox that has forgotten the stream
answers it with a reset.
"""

from __future__ import annotations


class IdleTimes:
    """Tell it what goes either way; ask it at the end."""

    def __init__(self, now: float) -> None:
        self._last = now  # when something last went either way
        self._unanswered_s = 0.0  # the longest idle time that only something of ours has ended
        self.longest_s = 0.0  # the longest idle time after which something was heard

    def sent(self, now: float) -> None:
        """Something was sent."""
        self._unanswered_s, self._last = max(self._unanswered_s, now - self._last), now

    def heard(self, now: float) -> None:
        """Something arrived."""
        self.longest_s = max(self.longest_s, self.idle_s(now))
        self._unanswered_s = 0.0
        self._last = now

    def idle_s(self, now: float) -> float:
        """For how long the stream had been idle when it ended, which is now."""
        return max(self._unanswered_s, now - self._last)
