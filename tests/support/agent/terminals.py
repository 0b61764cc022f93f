"""What a terminal shows and how it stands, read in ways that snapshots do not use."""

from __future__ import annotations

import re
from typing import Any, cast

from tether.agent.process.process import Processes
from tether.agent.screen import wire
from tether.agent.screen.client import Screens
from tether.agent.screen.ghostty import Emulator
from tether.agent.screen.host import handle
from tether.agent.screen.screen import TerminalScreen

_MODES = (1, 5, 6, 7, 9, 25, 45, 66, 1000, 1002, 1003, 1004, 1005, 1006, 1015, 1016, 2004, 2031)
_COLOUR = re.compile(rb"\x1b\[([\d;:]*)m|\x1b\]8;[^\x1b]*\x1b\\")
_WORD = re.compile(rb"[34]8;5;\d+|[34]8;2;\d+;\d+;\d+|[\d:]+")
_SEEN_ON_A_BLANK = re.compile(rb"48;|4\d$|10\d$|4$|4:|7$|9$|53$|58:")


def screen_cells(emulator: Emulator) -> list[list[Any]]:
    """Every cell of the screen that shows: its character, and its style where that can be seen."""
    rows, cols = emulator.size
    return [[_cell(emulator, row, col) for col in range(cols)] for row in range(rows)]


def _cell(emulator: Emulator, row: int, col: int) -> bytes | tuple[bytes, ...]:
    text = emulator.line(row, col, col)
    character = _COLOUR.sub(b"", text) or b" "
    style = [word for words in _COLOUR.findall(text) for word in _WORD.findall(words)]
    style = [word for word in style if word != b"0"]
    if character == b" ":
        style = [words for words in style if _SEEN_ON_A_BLANK.match(words)]
    return (character, *style) if style else character


def history_lines(emulator: Emulator) -> list[bytes]:
    """The scrollback, a line each, without colours; blank ones at its ends do not count."""
    text = b""
    for row in range(emulator.history_rows):
        text += emulator.line(row, 0, emulator.size[1] - 1, history=True)
        text += b"" if emulator.wraps(row, history=True) else b"\n"
    lines = _COLOUR.sub(b"", text).strip(b"\n")
    return [line.rstrip() for line in lines.split(b"\n")] if lines else []


def observed(emulator: Emulator) -> dict[str, Any]:
    """Everything that a viewer can see.

    Which rows are one line is left out: a snapshot tells it, but not for a line that has been torn
    apart, or that goes on from the scrollback to the screen.
    """
    return {
        "cells": screen_cells(emulator),
        "history": b"".join(history_lines(emulator)),
        "cursor": emulator.cursor,
        "wrap_pending": emulator.wrap_pending,
        "alternate": emulator.alternate,
        "title": emulator.title,
        "own_cursor": emulator.own_cursor,
        "modes": [mode for mode in _MODES if emulator.mode(mode)],
        "ansi_modes": [mode for mode in (4, 20) if emulator.mode(mode, ansi=True)],
        "settings": [emulator.feed(b"\x1bP$q" + what + b"\x1b\\") for what in (b"m", b"r", b" q")]
        if emulator.at_rest
        else None,
    }


class LocalScreens(Screens):
    """Screens without a process: the host's own code, carried out at once."""

    def __init__(self) -> None:
        super().__init__(cast(Processes, None), command=("nothing",))
        self._hosted: dict[int, TerminalScreen] = {}
        self._up = False

    @property
    def _running(self) -> bool:
        return self._up

    def _start(self) -> None:
        if not self.usable:
            return
        self._up = True
        for number, screen in self._screens.items():
            self.send(wire.encode(wire.Op.OPEN, number, wire.sides(screen.rows, screen.cols)))

    def send(self, frame: bytes) -> None:
        for op, number, body in wire.Frames().feed(frame):
            self._received(handle(self._hosted, op, number, body))
