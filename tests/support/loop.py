"""A loop whose clock jumps: real I/O, fake time.

Law: whenever nothing is ready, time jumps to the next timer, so an hour takes milliseconds. It does
not jump while a thread of an executor works: what that does, is done at one instant. With sockets of
other processes in flight give it a `grace`: that much real time passes before each jump, or the clock
would overtake the kernel. With no timer set and nothing ready the test would hang: that is an error.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
_HANGS_AFTER_S = 20.0
"""Real seconds after which a test hangs, or a thread: it may be meant to, and is overtaken then."""


class JumpingLoop(asyncio.SelectorEventLoop):
    """See the module's law."""

    def __init__(self, grace: float = 0.0) -> None:
        self.grace = grace
        self._virtual = 0.0
        self._in_threads = set[asyncio.Future[Any]]()
        super().__init__(_JumpingSelector(self))
        self._threads = ThreadPoolExecutor(thread_name_prefix="jumping")
        self.set_default_executor(self._threads)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._virtual

    def jump(self, seconds: float) -> None:
        """Let `seconds` have passed."""
        self._virtual += seconds

    def patience(self, timer_set: bool) -> float:
        """For how many real seconds something may become ready before time jumps."""
        return self.grace if timer_set and not self._in_threads else _HANGS_AFTER_S

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        executor = executor or self._threads
        done = asyncio.wrap_future(executor.submit(func, *args), loop=self)
        self._in_threads.add(done)
        done.add_done_callback(self._in_threads.discard)
        return done


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, loop: JumpingLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        patience = self._loop.patience(timeout is not None)
        if patience and (ready := super().select(patience)):
            return ready
        if timeout is None:
            raise RuntimeError("every task waits and no timer is set: this test would hang")
        self._loop.jump(timeout)
        return []


def backend(grace: float = 0.0) -> tuple[str, dict[str, Any]]:
    """anyio's name for a jumping loop: what `@pytest.mark.virtual_time(grace=…)` runs a test on."""
    return "asyncio", {"loop_factory": lambda: JumpingLoop(grace)}
