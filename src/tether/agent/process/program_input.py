"""What is typed, on its way to a program that may not read it.

Law: never blocks, keeps the order, and is bounded by asking its sources to pause.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable

INPUT_MAX = 1 << 20
"""Bytes that wait for the program above which its sources are asked to pause."""


class ProgramInput:
    """A queue before a non-blocking descriptor, which stays its owner's."""

    def __init__(self, descriptor: int, pause: Callable[[bool], None]) -> None:
        """`pause` is called with True when too much waits, and with False when there is room."""
        self._descriptor: int | None = descriptor
        self._pause = pause
        self._loop = asyncio.get_running_loop()
        self._queue: deque[memoryview] = deque()
        self._waiting = 0
        self._full = False

    def put(self, data: bytes) -> None:
        """Write `data` when the program takes it; dropped once closed."""
        if self._descriptor is None or not data:
            return
        self._queue.append(memoryview(data))
        self._waiting += len(data)
        if len(self._queue) == 1:
            self._write()
        if self._waiting > INPUT_MAX and not self._full:
            self._full = True
            self._pause(True)

    def close(self) -> None:
        """The program reads no more; call before the descriptor is closed."""
        if self._descriptor is not None:
            self._loop.remove_writer(self._descriptor)
            self._descriptor = None
            self._drop()

    def _write(self) -> None:
        if self._descriptor is None:
            return
        try:
            while self._queue:
                written = os.write(self._descriptor, self._queue[0])
                self._waiting -= written
                if written < len(self._queue[0]):
                    self._queue[0] = self._queue[0][written:]
                else:
                    self._queue.popleft()
        except BlockingIOError:
            pass
        except OSError:  # EIO: nobody has the program's end open any more
            self._drop()
        if self._queue:
            self._loop.add_writer(self._descriptor, self._write)
        else:
            self._loop.remove_writer(self._descriptor)
        if self._full and self._waiting <= INPUT_MAX // 2:
            self._full = False
            self._pause(False)

    def _drop(self) -> None:
        self._queue.clear()
        self._waiting = 0
