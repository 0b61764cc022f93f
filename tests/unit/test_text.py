"""Words for people: what they read is short, and cannot drive their terminal."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from tether.text import REPLACEMENT, duration, printable


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-3.0, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (86399, "23 h 59 min"),
        (86400 + 3599, "1 d"),
        (3 * 86400 + 2 * 3600, "3 d 2 h"),
    ],
)
def test_a_duration_has_at_most_two_units(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain wörds", "plain wörds"),
        ("two\nlines", "two lines"),
        ("\x1b[2Jgone", " [2Jgone"),
        ("\u202eright to left", " right to left"),
        ("", ""),
    ],
)
def test_what_could_drive_a_terminal_is_blank(text: str, line: str) -> None:
    assert printable(text) == line


@given(st.text(), st.sampled_from(["", " ", REPLACEMENT]))
def test_what_is_printable_stays_so(text: str, instead: str) -> None:
    line = printable(text, instead)
    assert line.isprintable()
    assert printable(line, instead) == line
