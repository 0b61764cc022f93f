"""A terminal's screen: fed with what a program writes, and turned back into bytes that redraw it.

Law: pure computation in one thread. `snapshot` makes any xterm-like terminal of the same size show
and behave as this one does: both screens, history, colours, cursor, saved cursor, scroll region, modes,
title. `frame` paints what fits into a window of another size. Only standard sequences are written.
"""

from __future__ import annotations

import re

from tether.agent.screen.ghostty import Emulator
from tether.text import printable

HISTORY_BYTES = 2 << 20
"""Bytes of scrollback that are kept: 2,300 rows of 80 columns, 900 of 200 (measured)."""

# A reset that leaves a user's own scrollback alone: RIS and ED 3 empty it, and after ED 2 some
# terminals append the screen to it.
_RESET = (
    b"\x18\x1b[?2026h\x1b[?1049l\x1b[?5l\x1b[?6l\x1b[?69l\x1b[?7h\x1b[?25h\x1b[4l\x1b[20l\x1b[r"
    b'\x1b[0m\x1b[0 q\x1b(B\x1b)B\x0f\x1b>\x1b]8;;\x1b\\\x1b[=0;1u\x1b[0"q'
    b"\x1b[?1l\x1b[?9l\x1b[?45l\x1b[?66l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1004l\x1b[?1005l"
    b"\x1b[?1006l\x1b[?1015l\x1b[?1016l\x1b[?2004l\x1b[?2031l\x1b[?12l\x1b[H\x1b[J"
)
_SHOWN = b"\x1b[?2026l"

_MODES = (1, 5, 9, 45, 1000, 1002, 1003, 1004, 1005, 1006, 1015, 1016, 2004, 2031)
"""DEC private modes that are restored; off by default. Left out on purpose: 3 and 40 (132 columns
would resize the window), 8 (auto-repeat), 1007 (terminals differ in its default), 2026 (a half-drawn
frame), 2027 and 2048 (how a viewer's terminal measures text and reports its size is its own affair)."""
_ON_BY_DEFAULT = (7, 25)
_ANSI_MODES = (4, 20)

# Answers that we give in place of the viewers' terminals: the same whoever looks on, and none about
# what only one viewer's terminal may be able to do. `terminal.output_cutter` has the queries.
_ANSWERS = re.compile(
    rb"\x1b\[\?[\d;]*c"  # DA1
    rb"|\x1b\[>[\d;]*c"  # DA2
    rb"|\x1b\[0n"  # DSR 5
    rb"|\x1b\[\d+;\d+R"  # DSR 6
    rb"|\x1b\[\??\d+;\d\$y"  # DECRPM
    rb"|\x1bP[01]\$r[^\x1b]*\x1b\\"  # DECRQSS
)


class TerminalScreen:
    """The screen of one terminal."""

    def __init__(self, *, rows: int, cols: int) -> None:
        self._emulator = Emulator(rows=rows, cols=cols, history_bytes=HISTORY_BYTES)

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return self._emulator.size

    @property
    def title(self) -> str:
        """What the program has called its window."""
        return self._emulator.title

    def feed(self, data: bytes) -> bytes:
        """Take what the program wrote; returns what to write back to it."""
        return b"".join(reply for reply in self._emulator.feed(data) if _ANSWERS.fullmatch(reply))

    def resize(self, *, rows: int, cols: int) -> None:
        """Change the size."""
        if (rows, cols) != self._emulator.size:
            self._emulator.resize(rows=rows, cols=cols)

    def close(self) -> None:
        """Give its memory back."""
        self._emulator.close()

    def snapshot(self, *, history: int = 0) -> bytes:
        """The bytes that make a terminal of the same size show and behave as this one.

        Args:
            history: lines of scrollback to write before the screen.
        """
        half_read = self._emulator.half_read
        if not half_read and not self._emulator.at_rest:
            self._emulator.feed(b"\x18")  # an endless sequence is given up
        copy = self._emulator.copy()
        try:
            return _whole(copy, history) + half_read
        finally:
            copy.close()

    def frame(self, *, rows: int, cols: int) -> bytes:
        """Paint this screen, or the part of it around the cursor, in a window of another size."""
        screen = self._emulator
        high, wide = screen.size
        at_row, at_col = screen.cursor
        top = max(0, at_row - rows + 1)
        left = max(0, at_col - cols + 1)
        bottom, right = min(high, top + rows), min(wide, left + cols)
        parts = [_RESET, b"\x1b[?1049h"]
        for row in range(top, bottom):
            text = screen.line(row, left, right - 1)
            parts += [_goto(row - top, 0), text]
        shape = _shape(screen) if screen.at_rest else b""
        parts += [_modes(screen), shape, _title(screen.title)]
        parts += [_goto(at_row - top, at_col - left), _SHOWN]
        return b"".join(parts)


def _whole(copy: Emulator, history: int) -> bytes:
    """The snapshot. `copy` is used up: each step reads its state, and may change it for the next."""
    region = _answer(copy, b"r")
    modes, shape, title = _modes(copy), _shape(copy), _title(copy.title)
    origin = copy.mode(6)
    margins = _answer(copy, b"s") if copy.mode(69) else b""
    now = _cursor(copy, region if origin else b"")
    alternate = _painted(copy) if copy.alternate else b""
    copy.feed(b"\x1b8")
    saved = _cursor(copy) + b"\x1b7"
    entered = b""
    if copy.alternate:
        copy.feed(b"\x1b[?1049l")
        # Entering the alternate screen saves the cursor, as the program did when it entered.
        entered = b"".join([_cursor(copy), b"\x1b[?1049h", alternate])
    parts = [_RESET, _past(copy, history), _painted(copy), entered, saved]
    parts += [b"\x1b[?69h\x1b[" + margins if margins else b"", b"\x1b[" + region, now]
    return b"".join([*parts, modes, shape, title, _SHOWN])


def _past(screen: Emulator, history: int) -> bytes:
    """The last `history` rows of scrollback, written and then pushed off the top."""
    kept = screen.history_rows
    rows, cols = screen.size
    count = min(kept, history)
    if not count:
        return b""
    parts = []
    for row in range(kept - count, kept):
        line = screen.line(row, 0, cols - 1, history=True)
        parts += [line, b"" if line and screen.wraps(row, history=True) else b"\r\n"]
    if parts[-1]:
        parts.pop()
    return b"".join([*parts, _goto(rows - 1, 0), b"\n" * min(count, rows), _goto(0, 0)])


def _painted(screen: Emulator) -> bytes:
    """The rows of the screen that shows, each put where it belongs.

    A row that goes on in the next is let run over, so that a viewer's terminal knows the two as one
    line: it then copies them as one and lays them out anew together.
    """
    rows, cols = screen.size
    lines = [screen.line(row, 0, cols - 1) for row in range(rows)]
    parts = [b"\x1b[0m"]
    runs_over = False
    for row, line in enumerate(lines):
        if line and not runs_over:
            parts.append(_goto(row, 0))
        if line:
            parts.append(line)
        runs_over = bool(line) and screen.wraps(row)
    return b"".join(parts)


def _cursor(screen: Emulator, region: bytes = b"") -> bytes:
    """What puts cursor and pen where they are; `region` is the scroll region if rows count from it."""
    row, col = screen.cursor
    first = int(region.partition(b";")[0]) - 1 if region else 0
    origin = b"\x1b[?6h" if region else b""
    last = b""
    if screen.wrap_pending:
        # Only writing in the last column brings a terminal to where the next character wraps.
        first_col = col - 1 if col and screen.second_half(row, col) else col
        last, col = screen.line(row, first_col, col) or b" ", first_col
    return b"".join([origin, _goto(row - first, col), b"\x1b[0m", last, b"\x1b[0m", screen.pen()])


def _modes(screen: Emulator) -> bytes:
    on = [b"\x1b[?%dh" % mode for mode in _MODES if screen.mode(mode)]
    off = [b"\x1b[?%dl" % mode for mode in _ON_BY_DEFAULT if not screen.mode(mode)]
    ansi = [b"\x1b[%dh" % mode for mode in _ANSI_MODES if screen.mode(mode, ansi=True)]
    keypad = [b"\x1b="] if screen.mode(66) else []  # not every terminal knows it as a mode
    return b"".join(on + off + ansi + keypad)


def _shape(screen: Emulator) -> bytes:
    """The cursor's shape; a viewer's own one (`_RESET`) unless the program has chosen."""
    return b"\x1b[" + _answer(screen, b" q") if screen.own_cursor else b""


def _answer(screen: Emulator, setting: bytes) -> bytes:
    """The terminal's own report of a setting (DECRQSS), as the end of the sequence that sets it."""
    report = b"".join(screen.feed(b"\x1bP$q" + setting + b"\x1b\\"))
    found = re.fullmatch(rb"\x1bP1\$r(.*)\x1b\\", report, re.DOTALL)
    return found[1] if found else b""


def _title(title: str) -> bytes:
    words = printable(title, "")
    return b"\x1b]2;" + words.encode() + b"\x1b\\" if words else b""


def _goto(row: int, col: int) -> bytes:
    return b"\x1b[%d;%dH" % (row + 1, col + 1)
