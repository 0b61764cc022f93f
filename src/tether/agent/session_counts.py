"""How many sessions each app has had, and has.

Law: bounded; a name that no family has is a client's free text and counts as `OTHER`.
"""

from __future__ import annotations

from collections import Counter

from tether.agent.commands.session_type import SessionType

OTHER = "other"


class SessionCounts:
    """Counters by app; sftp, scp and rsync count under the app that they serve."""

    def __init__(self) -> None:
        self.started: Counter[str] = Counter()
        self.open: Counter[str] = Counter()

    def began(self, kind: SessionType) -> None:
        """A session started."""
        self.started[_name(kind)] += 1
        self.open[_name(kind)] += 1

    def recognized(self, was: SessionType, now: SessionType) -> None:
        """A running session turned out to be another app's."""
        self.started[_name(was)] -= 1
        self.ended(was)
        self.began(now)

    def ended(self, kind: SessionType) -> None:
        """A session is over."""
        self.open[_name(kind)] -= 1


def _name(kind: SessionType) -> str:
    return kind.app if kind.recognized else OTHER
