"""Whether this server can still keep its promises: its database, by the beat that is written anyway.

Law: no clock and no queries. One failed write is bad luck; three beats in a row are an outage: whoever
is connected is let go with that cause, and let in again when a beat works.
"""

from __future__ import annotations

from collections.abc import Callable

from tether.log import get_logger
from tether.server.db.store import StoreUnavailable

MISSED_BEATS = 3

_log = get_logger("server")


class DatabaseWatch:
    """Tell it of each beat."""

    def __init__(
        self, *, lost: Callable[[StoreUnavailable], None], back: Callable[[], None]
    ) -> None:
        """`lost` is called once an outage, `back` when it is over."""
        self._lost, self._back = lost, back
        self._missed = 0

    def beat_failed(self, wrong: StoreUnavailable) -> None:
        """A beat could not be written."""
        self._missed += 1
        _log.error("the database cannot be written", error=str(wrong), beats_missed=self._missed)
        if self._missed == MISSED_BEATS:
            self._lost(wrong)

    def beat_worked(self) -> None:
        """A beat was written."""
        if self._missed >= MISSED_BEATS:
            self._back()
        self._missed = 0
