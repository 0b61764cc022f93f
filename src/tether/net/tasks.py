"""Owned, named tasks. The only caller of `create_task`.

Law: every task has an owner that outlives it or cancels it. A task that fails is logged with its name at
that moment, not when it is garbage-collected; one that is to run for as long as its owner (`keep`) is
begun again, and its failure goes no further.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from tether.net.unexpected import COUNTS, unexpected
from tether.protocol.backoff import Backoff

FIRST_S, MOST_S = 0.5, 30.0
"""The shortest and the longest wait before a task that failed is begun again, in seconds."""

T = TypeVar("T")
_log = logging.getLogger("tether.tasks")


class Tasks:
    """A set of tasks with one owner."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._running: set[asyncio.Task[Any]] = set()

    def spawn(self, coroutine: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Start `coroutine` as a task of this owner."""
        task = asyncio.get_running_loop().create_task(coroutine, name=f"{self._owner}/{name}")
        self._running.add(task)
        task.add_done_callback(self._done)
        return task

    def keep(self, work: Callable[[], Coroutine[Any, Any, T]], name: str) -> asyncio.Task[T]:
        """Run `work` until it returns; where it fails, begin it again after a while."""
        return self.spawn(self._kept(work, name), name)

    def __len__(self) -> int:
        return len(self._running)

    async def wait(self, timeout: float) -> None:
        """Wait until every task has ended, at most `timeout` seconds."""
        if self._running:
            await asyncio.wait(self._running, timeout=timeout)

    async def cancel(self) -> None:
        """Cancel what still runs, and wait for it. Offer the cause of an end to its cell before that."""
        me = asyncio.current_task()
        running = [task for task in self._running if task is not me]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _kept(self, work: Callable[[], Coroutine[Any, Any, T]], name: str) -> T:
        loop = asyncio.get_running_loop()
        backoff = Backoff(first=FIRST_S, most=MOST_S)
        while True:
            began = loop.time()
            try:
                return await work()
            except Exception as wrong:
                unexpected(f"task {self._owner}/{name}", wrong)
            backoff.lived(loop.time() - began)
            await asyncio.sleep(backoff.delay(random.random()))

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (wrong := task.exception()) is not None:
            if isinstance(
                wrong, Exception
            ):  # names hold ids, of which a metric may not make series
                COUNTS[f"task {getattr(task.get_coro(), '__qualname__', '')}"] += 1
            _log.error("task failed: %s", task.get_name(), exc_info=wrong)
