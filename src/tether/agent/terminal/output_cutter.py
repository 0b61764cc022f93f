"""A program's output on its way to several viewers: cut between sequences, and without its questions.

Law: bytes in, bytes out. A terminal answers questions (what are you? where is the cursor?) by typing.
The terminals of two viewers would type two answers; without a viewer there would be none. So the screen
host answers what is the same for all, and one viewer is asked what only a real terminal can know.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_LONGEST_HELD = 256
"""Bytes. A longer sequence (an image, a clipboard) goes on its way in pieces."""

# Answered by `screen.screen`, or by nobody: what programs conclude from the answer must hold for every
# viewer, also for those that attach later.
_FOR_NOBODY = (
    rb"\[[>=]?[0;]*c|Z"  # device attributes
    rb"|\[>0?q"  # name and version
    rb"|\[\??[56]n"  # status, cursor
    rb"|\[\??\d+\$p"  # modes
    rb"|P\$q[^\x1b\x07]{0,8}\x1b\\"  # settings
    rb"|\[\?u|\[\?\d+m"  # keyboard protocols
)
_FOR_ONE = (
    rb"\](?:4;\d+|5;\d+|1\d|52;[a-z0-9]*);\?(?:\x07|\x1b\\)"  # colours, clipboard
    rb"|P\+q[0-9A-Fa-f;]*\x1b\\"  # terminfo
    rb"|\[(?:1[1-9]|2[01])(?:;\d+)*t"  # window
    rb"|\[\?996n"  # light or dark
    rb"|_G[^\x1b]*a=q[^\x1b]*\x1b\\"  # graphics
)
# One literal ESC at the front: the regular expression engine then skips from one to the next.
_QUESTIONS = re.compile(rb"\x1b(?:(%b)|(?:%b))" % (_FOR_ONE, _FOR_NOBODY))
_UNFINISHED = re.compile(
    rb"\x1b(?:\[[0-?]*[ -/]*|[ -/]+|[\]PX^_][^\x07\x18\x1a\x1b]*\x1b?)?\Z", re.DOTALL
)
_HALF_CHARACTER = re.compile(
    rb"(?:[\xc2-\xdf]|[\xe0-\xef][\x80-\xbf]?|[\xf0-\xf4][\x80-\xbf]{0,2})\Z"
)


@dataclass(frozen=True, slots=True)
class Output:
    """One piece of output, in three forms."""

    raw: bytes
    """For the screen host."""
    everybody: bytes
    """For viewers."""
    one: bytes
    """For the one viewer that is asked."""


class OutputCutter:
    """Cuts the output of one program."""

    def __init__(self) -> None:
        self._held = b""  # the beginning of a sequence or a character

    def feed(self, data: bytes) -> Output:
        """Take what the program wrote. An unfinished sequence at its end waits for the rest."""
        data = self._held + data
        end = _whole_until(data)
        raw, self._held = data[:end], data[end:]
        return _without_questions(raw)

    def rest(self) -> Output:
        """The program will write no more: what is still held."""
        raw, self._held = self._held, b""
        return Output(raw, raw, raw)


def _whole_until(data: bytes) -> int:
    """Where the last whole sequence or character ends."""
    if unfinished := _UNFINISHED.search(data, max(0, len(data) - _LONGEST_HELD)):
        return unfinished.start()
    half = _HALF_CHARACTER.search(data, max(0, len(data) - 4))
    return half.start() if half else len(data)


def _without_questions(raw: bytes) -> Output:
    if not _QUESTIONS.search(raw):
        return Output(raw, raw, raw)
    one = _QUESTIONS.sub(lambda found: found[0] if found[1] else b"", raw)
    return Output(raw, _QUESTIONS.sub(b"", raw), one)
