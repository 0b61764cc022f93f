"""What the user sees while nothing moves: one line that does not spoil the terminal.

Law: says nothing about a gap of under two seconds. Where ssh holds the terminal in raw mode, the line
is on its top row, in reverse video, with the cursor put back, and goes away afterwards; then the agent
is asked to have the program redraw. `tether attach`, which holds the terminal itself, is handed the
same bytes over the pipe that our stderr is, and writes them. Anywhere else (a pipe, a file, a terminal
that scp or rsync shares) it is one plain line at the loss and one when it resumed. Nothing here ever
waits for the terminal.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import select
from collections.abc import Callable
from typing import Protocol

from tether.attribution.vocabulary import ConnectionMethod
from tether.net.host import platform
from tether.protocol.carriers.commands import Carried, Stalled, Status
from tether.text import duration, printable

QUIET_S = 2.0
"""A gap below this is nobody's business."""

EVERY_S = 1.0
RESUMED_S = 2.0
"""How long the sentence about the resumption stays on the top row."""

QUIET = "TETHER_QUIET"

# Save the cursor; leave origin mode, line drawing and colours; go to the top row, in reverse video.
_BEGIN = b"\x1b7\x1b[?6l\x1b(B\x0f\x1b[1;1H\x1b[0;7m"
_END = b"\x1b[0m\x1b[K\x1b8"
CLEAR = b"\x1b7\x1b[?6l\x1b[1;1H\x1b[0m\x1b[2K\x1b8"
"""Takes the line away; what was under it has to be drawn anew."""

COLUMNS = "TETHER_ATTACH_COLUMNS"
"""Set by `tether attach`, whose terminal is so wide: it is handed what to draw."""

HANDED = b"\x1e", b"\x1f"
"""What is before and after each drawing, among the words on stderr."""

TO_QUIT, TO_DETACH = "~. to quit", "Ctrl-\\ d to detach"


class StatusScreen(Protocol):
    """Where the user looks."""

    def held(self) -> bool:
        """Whether ssh has the terminal to itself, so that a plain line would spoil it."""

    def columns(self) -> int: ...

    def write(self, data: bytes) -> None:
        """Write now or not at all."""


class StderrScreen:
    """Our stderr."""

    def __init__(self, descriptor: int = 2) -> None:
        self._fd = descriptor

    def held(self) -> bool:
        return platform.is_raw(self._fd)

    def columns(self) -> int:
        try:
            return os.get_terminal_size(self._fd).columns or 80
        except OSError:
            return 80

    def write(self, data: bytes) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        if any(event & select.POLLOUT for _, event in poll.poll(0)):  # not one stopped by Ctrl-S
            with contextlib.suppress(OSError):
                os.write(self._fd, data)


class HandedScreen:
    """The terminal of the `tether attach` at the other end of our stderr."""

    def __init__(self, columns: int, descriptor: int = 2) -> None:
        self._columns = columns
        self._pipe = StderrScreen(descriptor)

    def held(self) -> bool:
        return True

    def columns(self) -> int:
        return self._columns

    def write(self, data: bytes) -> None:
        self._pipe.write(HANDED[0] + data + HANDED[1])


def hand_over(sentence: str, descriptor: int = 2) -> None:
    """Give `tether attach` one sentence to show, as a line, before its terminal is the remote one."""
    HandedScreen(0, descriptor).write(f"tether: {printable(sentence)}\r\n".encode())


def is_sentence(drawing: bytes) -> bool:
    """Whether what was handed over is a line of text, and no drawing on the top row."""
    return not drawing.startswith(b"\x1b")


_DRAWING = re.compile(re.escape(HANDED[0]) + b"(.*?)" + re.escape(HANDED[1]), re.DOTALL)


def split(said: bytes) -> tuple[bytes, list[bytes]]:
    """What came over a `HandedScreen`'s pipe: the words, and what is to be drawn."""
    return _DRAWING.sub(b"", said), _DRAWING.findall(said)


class NoScreen:
    """For those who asked to be left alone."""

    def held(self) -> bool:
        return False

    def columns(self) -> int:
        return 80

    def write(self, data: bytes) -> None:
        pass


class View:
    """Told what changes by `show`; `close` takes the line away."""

    def __init__(
        self,
        name: str,
        screen: StatusScreen,
        *,
        now: Callable[[], float],
        redraw: Callable[[], None],
        way_out: str = TO_QUIT,
    ) -> None:
        """`now` is the monotonic clock that `Stalled.since` is of; `redraw` asks the agent; `way_out`
        is what to type for who does not want to wait."""
        self._way_out = way_out
        self._name = name
        self._screen = screen
        self._now = now
        self._redraw = redraw
        self._loop = asyncio.get_running_loop()
        self._waiting: Stalled | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._told = False
        """The loss was told, in a plain line."""
        self._drawn = False

    def show(self, status: Status) -> None:
        """Something changed."""
        match status:
            case Stalled():
                self._waiting = status
                self._arm(max(0.0, status.since + QUIET_S - self._now()), self._lost)
            case Carried():
                self._waiting = None
                self._disarm()
                self._resumed(status)

    def close(self) -> None:
        """The connection is over: whoever says why needs the terminal clean."""
        self._waiting = None
        self._disarm()
        self._erase()

    def _lost(self) -> None:
        if self._waiting is None:
            return
        held = self._screen.held()
        seconds = self._now() - self._waiting.since
        why = f" ({self._waiting.reason})" if self._waiting.reason else ""
        if held:
            self._draw(
                f"tether: connection to {self._name} lost {duration(seconds)} ago{why};"
                f" reconnecting… {self._way_out}"
            )
        elif not self._told and not self._drawn:
            self._say(f"connection to {self._name} lost{why}; reconnecting…")
        self._told = True
        self._arm(EVERY_S, self._lost)

    def _resumed(self, status: Carried) -> None:
        if not self._told:
            return
        self._told = False
        sentence = f"resumed after {duration(status.gap_s)} (now {over(status)})"
        if self._drawn and self._screen.held():
            self._draw(f"tether: {sentence}")
            self._arm(RESUMED_S, self._erase)
        else:
            self._erase()
            self._say(f"connection to {self._name} {sentence}")

    def _draw(self, text: str) -> None:
        self._drawn = True
        line = printable(text)[: max(1, self._screen.columns() - 1)]
        self._screen.write(_BEGIN + line.encode() + _END)

    def _erase(self) -> None:
        if self._drawn:
            self._drawn = False
            self._screen.write(CLEAR)
            self._redraw()

    def _say(self, sentence: str) -> None:
        ending = b"\r\n" if self._screen.held() else b"\n"
        self._screen.write(b"tether: " + printable(sentence).encode() + ending)

    def _arm(self, seconds: float, then: Callable[[], None]) -> None:
        self._disarm()
        self._timer = self._loop.call_later(seconds, then)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def over(status: Carried) -> str:
    """By which way, for people."""
    if status.method is ConnectionMethod.DIRECT:
        return f"direct to {status.where}"
    return f"over derp region {status.where}" if status.where else "over the relay"
