"""What a terminal shows and how it stands, read in ways that snapshots do not use."""

from __future__ import annotations

import re
from typing import Any

from tether.agent.ghostty import Emulator

_MODES = (1, 5, 6, 7, 9, 25, 45, 66, 1000, 1002, 1003, 1004, 1005, 1006, 1015, 1016, 2004, 2031)


_COLOURS = re.compile(rb"\x1b\[[\d;:]*m|\x1b\]8;[^\x1b]*\x1b\\")
_SEEN_ON_A_BLANK = ("underline", "strikethrough", "overline", "inverse")


def screen_cells(emulator: Emulator) -> list[list[Any]]:
    """Every cell of the screen that shows: its character, and its style where that can be seen."""
    rows, cols = emulator.size
    return [[_cell(emulator, row, col) for col in range(cols)] for row in range(rows)]


def _cell(emulator: Emulator, row: int, col: int) -> Any:
    character = _COLOURS.sub(b"", emulator.text((row, col), (row, col)))
    style = emulator._terminal.style(col, row)
    if character in (b"", b" "):
        seen = any(style[name] for name in _SEEN_ON_A_BLANK)
        style = style if seen else {"bg": style["bg"]}
        character = b" "
    return character if style == {"bg": None} else (character, style)


def history_lines(emulator: Emulator) -> list[bytes]:
    """The scrollback, a line each; blank ones at its ends do not count."""
    kept = emulator.history_rows
    if not kept:
        return []
    text = emulator.text((0, 0), (kept - 1, emulator.size[1] - 1), history=True, unwrap=True)
    return [line.rstrip() for line in _COLOURS.sub(b"", text).strip(b"\r\n").split(b"\r\n")]


def observed(emulator: Emulator) -> dict[str, Any]:
    """Everything that a viewer can tell."""
    return {
        "cells": screen_cells(emulator),
        "wraps": [emulator.wraps(row) for row in range(emulator.size[0])],
        "history": history_lines(emulator),
        "cursor": emulator.cursor,
        "wrap_pending": emulator.wrap_pending,
        "alternate": emulator.alternate,
        "title": emulator.title,
        "modes": [mode for mode in _MODES if emulator.mode(mode)],
        "ansi_modes": [mode for mode in (4, 20) if emulator.mode(mode, ansi=True)],
        "settings": [emulator.feed(b"\x1bP$q" + what + b"\x1b\\") for what in (b"m", b"r", b" q")]
        if emulator.at_rest
        else None,
    }
