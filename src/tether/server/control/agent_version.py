"""Versions of agents, as far as a server has to compare them.

Law: pure. A version is numbers with dots between; what follows them (`rc1`, `+local`) is not compared,
and what begins with no number is older than everything.
"""

from __future__ import annotations

import re

_NUMBERS = re.compile(r"\d{1,9}(?:\.\d{1,9}){0,5}")


def is_version(text: str) -> bool:
    """Whether `text` begins like a version."""
    return _NUMBERS.match(text) is not None


def is_older(version: str, minimum: str) -> bool:
    """Whether `version` is older than `minimum`; nothing is older than ""."""
    return _numbers(version) < _numbers(minimum)


def _numbers(text: str) -> tuple[int, ...]:
    found = _NUMBERS.match(text)
    if found is None:
        return ()
    numbers = [int(part) for part in found.group().split(".")]
    while numbers and numbers[-1] == 0:  # 1.0 is no older than 1
        numbers.pop()
    return (1, *numbers)  # some version is more than none
