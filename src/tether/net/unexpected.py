"""Exceptions that no table foresees: counted, and the first of each kind logged with its traceback.

Law: nothing in between may end a program or a session. Whoever calls a library at an edge (a dial, a
stream, a collector, a report) has a last row that catches what no other row foresees, tells it here,
and goes on: with a failed dial, a lost stream, or the same task once more. The numbers are those of
this process. Imports nothing that a short command would have to wait for.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import Any

_log = logging.getLogger("tether.unexpected")

COUNTS: Counter[str] = Counter()
"""How often, by where: a closed set of words, so that no peer can make series."""

_logged: set[tuple[str, type[BaseException]]] = set()


def unexpected(where: str, wrong: BaseException) -> None:
    """Count `wrong`, and log it with its traceback if it is the first of its class at this place.

    Args:
        where: what raised it, in words that do not differ from one peer to the next.
        wrong: what was raised.
    """
    COUNTS[where] += 1
    kind = where, type(wrong)
    if kind not in _logged:
        _logged.add(kind)
        _log.error("%s failed in a way that was not foreseen", where, exc_info=wrong)


def forget() -> None:
    """Log the next of each kind as the first one again."""
    _logged.clear()


def told_by_loop(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """For `loop.set_exception_handler`: what a callback raised, and nobody caught."""
    wrong = context.get("exception")
    if isinstance(wrong, Exception):
        unexpected("a callback", wrong)
    else:
        loop.default_exception_handler(context)
