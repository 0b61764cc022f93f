"""Words for people that many places need: durations, and text that came from somebody else.

Law: a leaf that every package may import; pure, with the standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable

_UNITS = (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1))


def duration(seconds: float) -> str:
    """Whole seconds in the two largest units that fit: `2 h 5 min`. A negative duration is none."""
    whole = max(0, round(seconds))
    for unit, size, smaller, part in _UNITS:
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {unit} {rest} {smaller}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def printable(text: str, instead: str = " ") -> str:
    """`text` as one line that cannot drive a terminal or a log: `instead` of each character that is
    not printable (`str.isprintable`), newlines and escapes included."""
    return "".join(char if char.isprintable() else instead for char in text)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`: did you mean 'dev'?`, with the one that `word` is nearest to, to be put behind a sentence;
    empty where none is near."""
    from difflib import get_close_matches  # only where somebody made a mistake

    near = get_close_matches(word.lower(), list(known), n=1)
    return f": did you mean {near[0]!r}?" if near else ""


REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
"""Instead of a character, where it should show that there was one."""
