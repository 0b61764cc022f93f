"""How long a stream was silent: before its end, and at most before that.

Law: no clock; moments (monotonic seconds) go in. Silent means that nothing went either way. What was
sent and never answered did not end a silence: a middlebox that forgot the stream answers with a reset.
"""

from __future__ import annotations


class IdleTimes:
    """Tell it what goes either way; ask it at the end."""

    def __init__(self, now: float) -> None:
        self._last = now
        self._unanswered_s = 0.0
        """The longest silence that ended, since something was heard, by what we sent."""
        self.longest_s = 0.0
        """The longest silence that the stream outlived: something was heard after it."""

    def sent(self, now: float) -> None:
        """Something was sent."""
        self._unanswered_s, self._last = max(self._unanswered_s, now - self._last), now

    def heard(self, now: float) -> None:
        """Something arrived."""
        self.longest_s = max(self.longest_s, self.idle_s(now))
        self._unanswered_s, self._last = 0.0, now

    def idle_s(self, now: float) -> float:
        """How long nothing had gone either way when the stream ended, which is now."""
        return max(self._unanswered_s, now - self._last)
