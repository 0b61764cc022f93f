"""The local program's pipe: file descriptors in, callbacks out, with back-pressure both ways.

Law: knows no protocol. Descriptors may be pipes, sockets, terminals or plain files; they are used
non-blocking and given back as they were found, because they may be shared with other programs.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

READ_SIZE = 256 << 10


class NonBlocking:
    """Descriptors that do not block while the context lasts."""

    def __init__(self, *descriptors: int) -> None:
        self._descriptors = descriptors
        self._before: list[tuple[int, bool]] = []

    def __enter__(self) -> None:
        for descriptor in self._descriptors:
            self._before.append((descriptor, os.get_blocking(descriptor)))
            os.set_blocking(descriptor, False)

    def __exit__(self, *_: object) -> None:
        # In reverse: two descriptors may be one open file.
        for descriptor, blocking in reversed(self._before):
            os.set_blocking(descriptor, blocking)


class Intake:
    """Reads a descriptor until its end."""

    def __init__(
        self,
        descriptor: int,
        *,
        on_bytes: Callable[[bytes], Awaitable[None] | None],
        on_end: Callable[[], None],
    ) -> None:
        """`on_bytes` may return an awaitable: nothing more is read until it is done."""
        self._fd, self._on_bytes, self._on_end = descriptor, on_bytes, on_end
        self._loop = asyncio.get_running_loop()

    async def run(self) -> None:
        """Pump until the descriptor's end; then `on_end` has been called."""
        while True:
            try:
                data = os.read(self._fd, READ_SIZE)
            except BlockingIOError:
                await self._readable()
                continue
            except OSError:  # a terminal that was closed, a socket that was reset
                data = b""
            if not data:
                self._on_end()
                return
            if (waiting := self._on_bytes(data)) is not None:
                await waiting

    async def _readable(self) -> None:
        ready = self._loop.create_future()
        self._loop.add_reader(self._fd, _resolve, ready)
        try:
            await ready
        finally:
            self._loop.remove_reader(self._fd)


class Outlet:
    """Writes a descriptor; what cannot be written at once is awaited by the caller."""

    def __init__(self, descriptor: int, *, on_broken: Callable[[], None]) -> None:
        self._fd, self._on_broken = descriptor, on_broken
        self._loop = asyncio.get_running_loop()
        self._broken = False
        self._waiting: asyncio.Future[None] | None = None

    def write(self, data: memoryview) -> Awaitable[None] | None:
        """Write all of `data`; await the answer, if there is one, before the next call."""
        rest = self._write_some(data)
        return None if not rest else self._write_rest(rest)

    def abandon(self) -> None:
        """Nobody reads any more: drop everything from now on."""
        self._broken = True
        if self._waiting is not None:
            _resolve(self._waiting)

    def end(self) -> None:
        """Let the reader see the end of the stream; the descriptor's number stays taken."""
        self.abandon()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self._fd)
        os.close(null)

    def _write_some(self, data: memoryview) -> memoryview:
        while data and not self._broken:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:
                return data
            except OSError:
                self._broken = True
                self._on_broken()
        return data[:0]

    async def _write_rest(self, rest: memoryview) -> None:
        while rest:
            self._waiting = self._loop.create_future()
            self._loop.add_writer(self._fd, _resolve, self._waiting)
            try:
                await self._waiting
            finally:
                self._loop.remove_writer(self._fd)
                self._waiting = None
            rest = self._write_some(rest)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
