"""The viewers of a terminal: what each is sent, whose window decides the size, how long none may look.

Law: no I/O and no clock; `now` is monotonic seconds. A viewer is either live, and sent the program's
own bytes, or sent pictures of the screen until it has caught up. Nothing waits for a viewer: one that
does not read, or whose window has another size, sees pictures, and the others notice nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

QUEUE_MAX = 256 << 10
"""Bytes that wait for one viewer; with more it is sent a picture instead."""

FRAME_S = 1 / 30
"""Seconds between two pictures for one viewer, at least."""

IDLE_S = 300.0
"""How long a terminal lives without a viewer, unless the settings say otherwise."""


class SizePolicy(StrEnum):
    """Whose window decides the size of a terminal with several viewers."""

    SMALLEST = "smallest"
    LAST = "last"

    @classmethod
    def read(cls, word: str) -> SizePolicy:
        """The policy that `word` names; `SMALLEST` for any other word."""
        return cls(word) if word in cls._value2member_map_ else cls.SMALLEST


class Viewer:
    """What one viewer is sent. It starts with a picture that has `history` lines above it."""

    def __init__(
        self, *, rows: int, cols: int, screen: tuple[int, int], history: int, now: float
    ) -> None:
        self.rows = rows
        self.cols = cols
        self.history = history  # lines above its next picture
        self.live = False  # it is sent the program's own bytes
        self._screen = screen  # rows and columns of the terminal
        self._stale = True  # something was written since its last picture was asked for
        self._asked = False  # a picture is being made for it
        self._outdated = False  # that picture will not do, because too much was written since
        self._blocked = False  # its transport takes no more for now
        self._since = bytearray()  # written while its picture is being made
        self._queue = bytearray()  # written while it was live and blocked
        self._next_picture = now  # when it may have the next, in monotonic seconds

    @property
    def exact(self) -> bool:
        """Whether its window is as large as the terminal: only then can it take raw bytes."""
        return (self.rows, self.cols) == self._screen

    def output(self, data: bytes) -> bytes:
        """The program wrote `data`; returns what to send."""
        if self.live:
            if not self._blocked:
                return data
            self._queue += data
            if len(self._queue) > QUEUE_MAX:
                self._fall_behind()
            return b""
        self._stale = True
        if self._asked:
            self._since += data
            if len(self._since) > QUEUE_MAX:
                self._since.clear()
                self._outdated = True
        return b""

    def deadline(self) -> float | None:
        """When it may be shown the next picture; None if it needs none."""
        waits = self._asked or self._blocked or self.live or not self._stale
        return None if waits else self._next_picture

    def asked(self, now: float) -> None:
        """A picture is being made of what the screen shows now."""
        self._asked = True
        self._stale = False
        self._outdated = False
        self._since.clear()
        self._next_picture = now + FRAME_S

    def shown(self, *, pictured: bool = True) -> bytes:
        """The picture has been sent; returns what to send after it.

        Args:
            pictured: False where no emulator runs: then raw bytes have to do for any window.
        """
        self._asked = False
        self.history = 0
        missed = bytes(self._since)
        self._since.clear()
        if (self.exact or not pictured) and not self._outdated:
            self.live = True
            self._stale = False
            return self.output(missed) if missed else b""
        return b""

    def block(self) -> None:
        """Its transport takes no more for now."""
        self._blocked = True

    def unblock(self) -> bytes:
        """Its transport takes more; returns what to send."""
        self._blocked = False
        waiting = bytes(self._queue)
        self._queue.clear()
        return waiting

    def resize(self, *, rows: int, cols: int) -> None:
        """Its window has another size."""
        if (rows, cols) != (self.rows, self.cols):
            self.rows = rows
            self.cols = cols
            self._fall_behind()

    def screen_resized(self, screen: tuple[int, int]) -> None:
        """The terminal has another size."""
        if screen != self._screen:
            self._screen = screen
            self._fall_behind()

    def _fall_behind(self) -> None:
        self._queue.clear()
        self._since.clear()
        self.live = False
        self._stale = True
        self._outdated = True


def agreed_size(
    policy: SizePolicy, windows: Iterable[tuple[int, int]], last: tuple[int, int]
) -> tuple[int, int]:
    """The size that a terminal takes.

    Args:
        policy: whose window decides.
        windows: the viewers' rows and columns.
        last: rows and columns of the viewer that came or changed last; the answer without viewers.
    """
    sizes = list(windows)
    if policy is SizePolicy.LAST or not sizes:
        return last
    return min(rows for rows, _ in sizes), min(cols for _, cols in sizes)


class Idle:
    """How long a terminal has been without a viewer. `after` seconds; None waits for ever."""

    def __init__(self, now: float, after: float | None) -> None:
        self._after = after
        self._until = None if after is None else now + after

    def watched(self) -> None:
        """It has a viewer."""
        self._until = None

    def unwatched(self, now: float) -> None:
        """Its last viewer has gone."""
        self._until = None if self._after is None else now + self._after

    def deadline(self) -> float | None:
        """When it has waited long enough."""
        return self._until

    def expired(self, now: float) -> bool:
        """Whether it has waited long enough."""
        return self._until is not None and now >= self._until
