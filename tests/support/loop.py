"""A loop whose clock jumps: real I/O, fake time.

Law: whenever nothing is ready, time jumps to the next timer, so an hour takes milliseconds. With
sockets or threads in flight give it a `grace`: that much real time passes before each jump, or the
clock would overtake the kernel. With no timer set and nothing ready the test would hang: that is an
error, raised after one real second.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
_HANGS_AFTER_S = 1.0


class JumpingLoop(asyncio.SelectorEventLoop):
    """See the module's law."""

    def __init__(self, grace: float = 0.0) -> None:
        self.grace = grace
        self._virtual = 0.0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._virtual

    def jump(self, seconds: float) -> None:
        """Let `seconds` have passed."""
        self._virtual += seconds


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, loop: JumpingLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        patience = self._loop.grace if timeout is not None else _HANGS_AFTER_S + self._loop.grace
        if patience and (ready := super().select(patience)):
            return ready
        if timeout is None:
            raise RuntimeError("every task waits and no timer is set: this test would hang")
        self._loop.jump(timeout)
        return []


def backend(grace: float = 0.0) -> tuple[str, dict[str, Any]]:
    """anyio's name for a jumping loop: what `@pytest.mark.virtual_time(grace=…)` runs a test on."""
    return "asyncio", {"loop_factory": lambda: JumpingLoop(grace)}


def run(main: Callable[[], Coroutine[Any, Any, T]], *, grace: float = 0.0) -> T:
    """Run `main` on a jumping loop."""
    with asyncio.Runner(loop_factory=lambda: JumpingLoop(grace)) as runner:
        return runner.run(main())
