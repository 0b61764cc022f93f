"""What a fault is: something that was harmed, and how it is made good again.

Law: a fault knows nothing of what it harms.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from types import TracebackType

numbers = itertools.count(1)
"""For names of tables and devices that are not taken."""


class Fault:
    """Something that was harmed. A context manager; `undo` may be called more than once."""

    def __init__(self, among: list[Fault], what: str, undo: Callable[[], None]) -> None:
        """`among` are the faults of its laboratory, of which it is one until it is undone; `what` says
        what was done, in a few words."""
        self.what = what
        self._among = among
        self._undo = undo
        self._undone = False
        among.append(self)

    def undo(self) -> None:
        if self._undone:
            return
        self._undo()
        self._undone = True
        self._among.remove(self)

    def __enter__(self) -> Fault:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.undo()

    def __repr__(self) -> str:
        return f"<Fault: {self.what}>"


def void(_: object) -> None:
    """Drop what an `undo` returns."""
