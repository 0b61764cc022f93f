"""A snapshot makes another terminal the same: what it shows, and what it does with what comes next."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.terminals import observed, screen_cells
from tether.agent.ghostty import Emulator
from tether.agent.terminal_screen import HISTORY, TerminalScreen

ROWS, COLS = 8, 24

_numbers = st.integers(0, 30)
_texts = st.sampled_from(
    ["a", "word ", "0123456789" * 3, "日本語", "한글 text", "e\u0301", "👩‍👩‍👧", "🇩🇪", "\t", "ก\u0e33", "─"]
).map(str.encode)
_controls = st.sampled_from(
    [
        *(b"\r", b"\n", b"\r\n", b"\b", b"\x0b", b"\x1b7", b"\x1b8", b"\x1bM"),
        *(b"\x1bD", b"\x1bE", b"\x1bH", b"\x1b(0lqk\x1b(B", b"\x1b)0\x0exj\x0f", b"\x1b=", b"\x1b>"),
        *(b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[3 q", b"\x1b[0 q", b"\x1b]2;a title\x07"),
        *(b"\x1b]8;;http://x/\x1b\\", b"\x1b]8;;\x1b\\", b"\x1b[r", b"\x1b[2J", b"\x1b[K"),
    ]
)
_sequences = st.builds(
    lambda numbers, final: b"\x1b[%b%c" % (b";".join(b"%d" % n for n in numbers), final),
    st.lists(_numbers, max_size=2),
    st.sampled_from(list(b"ABCDEFGHJKLMPSTXZ@dfb`g")),
)
_regions = st.builds(lambda a, b: b"\x1b[%d;%dr" % (a, a + b), st.integers(1, 6), st.integers(1, 7))
_modes = st.builds(
    lambda mode, on: b"\x1b[?%d%b" % (mode, b"h" if on else b"l"),
    st.sampled_from([1, 5, 6, 7, 9, 25, 66, 1000, 1002, 1003, 1004, 1006, 2004]),
    st.booleans(),
) | st.sampled_from([b"\x1b[4h", b"\x1b[4l", b"\x1b[20h", b"\x1b[20l"])
_colours = st.sampled_from(
    ["0", "1", "3", "4", "4:3", "7", "8", "9", "31", "42", "96", "38;5;200", "48;2;1;2;3", "58:5:9", "53"]
).map(lambda words: b"\x1b[%bm" % words.encode())
_tokens = _texts | _texts | _controls | _sequences | _regions | _modes | _colours
output = st.lists(_tokens, max_size=40)
"""What a program may write, short of sequences that no program writes."""


def twin(screen: TerminalScreen) -> Emulator:
    """A second terminal, fed with the snapshot and nothing else."""
    rows, cols = screen.size
    emulator = Emulator(rows=rows, cols=cols, history=HISTORY)
    emulator.feed(screen.snapshot(history=HISTORY))
    return emulator


def fed(*parts: bytes, rows: int = ROWS, cols: int = COLS) -> Emulator:
    emulator = Emulator(rows=rows, cols=cols, history=HISTORY)
    for part in parts:
        emulator.feed(part)
    return emulator


@given(before=output, after=output)
@settings(max_examples=400)
def test_whoever_attaches_anywhere_sees_what_a_viewer_from_the_start_sees(
    before: list[bytes], after: list[bytes]
) -> None:
    screen = TerminalScreen(rows=ROWS, cols=COLS)
    for token in before:
        screen.feed(token)
    late, early = twin(screen), fed(*before)
    assert observed(late) == observed(early)
    for token in after:
        late.feed(token)
        early.feed(token)
    assert observed(late) == observed(early)
