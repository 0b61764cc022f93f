"""Non-blocking reading and writing of file descriptors, with back-pressure both ways.

Law: never blocks, keeps the order, and buffers only one read and what a descriptor did not take. An
error of a descriptor counts as its end; what that means is up to the caller. `FdReader` and `FdWriter`
are driven by the loop; `read_to_end` is for a caller that has a task.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Awaitable, Callable

CHUNK = 64 << 10
"""Bytes of one read of `FdReader`, before others have their turn of the loop."""

BULK = 256 << 10
"""Bytes of one read of `read_to_end`."""


def _nothing() -> None:
    pass


class NonBlocking:
    """Makes descriptors non-blocking while the context lasts.

    They are restored after it, because other programs may share them.
    """

    def __init__(self, *descriptors: int) -> None:
        self._descriptors = descriptors
        self._before: list[tuple[int, bool]] = []

    def __enter__(self) -> None:
        for descriptor in self._descriptors:
            self._before.append((descriptor, os.get_blocking(descriptor)))
            os.set_blocking(descriptor, False)

    def __exit__(self, *_: object) -> None:
        # In reverse, because two descriptors may be one open file.
        for descriptor, blocking in reversed(self._before):
            os.set_blocking(descriptor, blocking)


async def read_to_end(descriptor: int, on_bytes: Callable[[bytes], Awaitable[None] | None]) -> None:
    """Read a pipe, socket, terminal or plain file to its end.

    Args:
        descriptor: non-blocking; it stays the caller's.
        on_bytes: may return an awaitable: nothing more is read until it is done.
    """
    loop = asyncio.get_running_loop()
    while True:
        try:
            data = os.read(descriptor, BULK)
        except BlockingIOError:
            ready = loop.create_future()
            loop.add_reader(descriptor, _resolve, ready)
            try:
                await ready
            finally:
                loop.remove_reader(descriptor)
            continue
        except OSError:  # a terminal that was closed, a socket that was reset
            return
        if not data:
            return
        if (waiting := on_bytes(data)) is not None:
            await waiting


class FdReader:
    """Reads a descriptor, which it owns, and hands on what comes."""

    def __init__(
        self, descriptor: int, on_bytes: Callable[[bytes], None], on_end: Callable[[], None]
    ) -> None:
        """
        Args:
            descriptor: non-blocking.
            on_bytes: is handed what was read.
            on_end: is called once there is no more to read; not after `close`.
        """
        self._loop = asyncio.get_running_loop()
        self._fd: int | None = descriptor
        self._on_bytes = on_bytes
        self._on_end = on_end
        self._reading = False
        self.resume()

    @property
    def open(self) -> bool:
        """Whether more may come."""
        return self._fd is not None

    def pause(self) -> None:
        """Read nothing for now."""
        if self._reading and self._fd is not None:
            self._reading = False
            self._loop.remove_reader(self._fd)

    def resume(self) -> None:
        """Read on."""
        if not self._reading and self._fd is not None:
            self._reading = True
            self._loop.add_reader(self._fd, self._ready)

    def close(self) -> None:
        """Read no more; a process that goes on writing gets SIGPIPE, or SIGHUP from a terminal."""
        self.pause()
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def finish(self) -> None:
        """Read what is there now, then end, even if other processes still hold the other side."""
        while self._fd is not None:
            if not self._take():
                self._end()

    def _ready(self) -> None:
        if self._fd is not None and self._take() is False:
            self._end()

    def _take(self) -> bool | None:
        """Read once; False at the end, None if there is nothing now."""
        assert self._fd is not None, "a closed reader is not called"
        try:
            data = os.read(self._fd, CHUNK)
        except BlockingIOError:
            return None
        except OSError:  # EIO: the terminal was hung up from the other side
            return False
        if not data:
            return False
        self._on_bytes(data)
        return True

    def _end(self) -> None:
        if self._fd is not None:
            self.close()
            self._on_end()


class FdWriter:
    """Writes to a descriptor. What it does not take at once waits, and the caller is told when to
    pause."""

    def __init__(
        self,
        descriptor: int,
        *,
        owned: bool,
        most: int = 0,
        on_full: Callable[[], None] = _nothing,
        on_room: Callable[[], None] = _nothing,
        on_broken: Callable[[], None] = _nothing,
    ) -> None:
        """
        Args:
            descriptor: non-blocking.
            owned: whether it is closed here, at the end or when it breaks.
            most: bytes that may wait before `on_full` is called.
            on_full: is called when the caller should write no more for now.
            on_room: is called when it may write again: half of `most` or less waits.
            on_broken: is called when nobody reads any more; what waited was dropped.
        """
        self._loop = asyncio.get_running_loop()
        self._fd: int | None = descriptor
        self._owned = owned
        self._most = most
        self._on_full = on_full
        self._on_room = on_room
        self._on_broken = on_broken
        self._queue: deque[memoryview] = deque()
        self._waiting = 0  # bytes in the queue
        self._full = False  # `on_full` was called, and `on_room` not since
        self._ending = False  # no more will be written
        self._emptied: asyncio.Future[None] | None = None

    @property
    def open(self) -> bool:
        """Whether anything can still be written."""
        return self._fd is not None

    def write(self, data: bytes | memoryview) -> None:
        """Write `data` at once, or when the descriptor takes it. After `end` or `close` it is
        dropped."""
        if self._fd is None or self._ending:
            return
        rest = memoryview(data)
        if not self._queue:
            rest = self._push(rest) or rest[:0]
            if not rest:
                return
            self._loop.add_writer(self._fd, self._ready)
        self._queue.append(rest)
        self._waiting += len(rest)
        if self._waiting > self._most and not self._full:
            self._full = True
            self._on_full()

    def emptied(self) -> Awaitable[None] | None:
        """What to await until nothing waits any more, written or dropped; None if nothing waits now."""
        if not self._queue:
            return None
        if self._emptied is None or self._emptied.done():
            self._emptied = self._loop.create_future()
        return self._emptied

    def end(self) -> None:
        """Close as soon as everything that waits is written."""
        self._ending = True
        if not self._queue:
            self.close()

    def close(self) -> None:
        """Close now; what waits is dropped."""
        self._drop()
        if self._fd is not None and self._owned:
            os.close(self._fd)
        self._fd = None

    def _ready(self) -> None:
        while self._queue:
            first = self._queue[0]
            rest = self._push(first)
            if rest is None:
                return
            self._waiting -= len(first) - len(rest)
            if rest:
                self._queue[0] = rest
                break
            self._queue.popleft()
        if not self._queue:
            self._drop()
            if self._ending:
                self.close()
                return
        self._tell_room()

    def _push(self, data: memoryview) -> memoryview | None:
        """Write what the descriptor takes now. Returns the rest; None where nobody reads any more."""
        assert self._fd is not None, "a closed writer has nothing to write"
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except BlockingIOError:
            pass
        except OSError:  # EPIPE, or EIO of a terminal
            if self._owned:
                self.close()
            else:
                self._drop()
            self._on_broken()
            self._tell_room()
            return None
        return data

    def _drop(self) -> None:
        """Forget what waits."""
        if self._fd is not None:
            self._loop.remove_writer(self._fd)
        self._queue.clear()
        self._waiting = 0
        if self._emptied is not None:
            _resolve(self._emptied)

    def _tell_room(self) -> None:
        if self._full and self._waiting <= self._most // 2:
            self._full = False
            self._on_room()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
