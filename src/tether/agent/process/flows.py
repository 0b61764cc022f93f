"""Bytes between a descriptor and a channel, in one direction each, with back-pressure.

Law: reads and writes never block and nothing is buffered beyond one read and what a full pipe gave
back; each flow owns its descriptor and closes it exactly once. An error of the descriptor is its
end: the process at the other side is what ends a session, not its pipe.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

CHUNK = 64 << 10


class Outflow:
    """What a process writes, read while there is room and handed to `write`."""

    def __init__(
        self, descriptor: int, write: Callable[[bytes], None], on_end: Callable[[], None]
    ) -> None:
        """`on_end` is called once, at the end of the output; not after `close`."""
        self._loop = asyncio.get_running_loop()
        self._fd: int | None = descriptor
        self._write, self._on_end = write, on_end
        self._reading = False
        self.resume()

    @property
    def open(self) -> bool:
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
        """Take what is there now, then end, although others may still hold the other side."""
        while self._fd is not None:
            if not self._take():
                self._end()

    def _ready(self) -> None:
        if self._fd is not None and self._take() is False:
            self._end()

    def _take(self) -> bool | None:
        """Hand on one read; False at the end, None if there is nothing now."""
        assert self._fd is not None, "a closed flow has no reader"
        try:
            data = os.read(self._fd, CHUNK)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:  # EIO: the terminal was hung up from the other side
            return False
        if not data:
            return False
        self._write(data)
        return True

    def _end(self) -> None:
        if self._fd is not None:
            self.close()
            self._on_end()


class Inflow:
    """What a client writes, handed to a process as fast as it takes it."""

    def __init__(
        self,
        descriptor: int,
        *,
        on_full: Callable[[], None],
        on_room: Callable[[], None],
        on_broken: Callable[[], None],
    ) -> None:
        """`on_full` asks for no more, `on_room` for more again; `on_broken` tells that the process
        reads no more."""
        self._loop = asyncio.get_running_loop()
        self._fd: int | None = descriptor
        self._on_full, self._on_room, self._on_broken = on_full, on_room, on_broken
        self._waiting = bytearray()
        self._ending = False

    @property
    def open(self) -> bool:
        return self._fd is not None

    def write(self, data: bytes) -> None:
        """Pass `data` on; what does not fit waits. Dropped once the process reads no more."""
        if self._fd is None or self._ending:
            return
        if not self._waiting:
            data = data[self._push(data) :]
            if data and self._fd is not None:
                self._loop.add_writer(self._fd, self._ready)
                self._on_full()
        if self._fd is not None:
            self._waiting += data

    def end(self) -> None:
        """No more will come: close once everything that waits is written."""
        self._ending = True
        if not self._waiting:
            self.close()

    def close(self) -> None:
        """Close now; what waits is dropped."""
        if self._fd is not None:
            if self._waiting:
                self._loop.remove_writer(self._fd)
                self._waiting.clear()
            os.close(self._fd)
            self._fd = None

    def _ready(self) -> None:
        del self._waiting[: self._push(bytes(self._waiting[:CHUNK]))]
        if self._fd is None:
            self._on_room()  # the process reads no more: take the rest and drop it
        elif not self._waiting:
            self._loop.remove_writer(self._fd)
            if self._ending:
                self.close()
            else:
                self._on_room()

    def _push(self, data: bytes) -> int:
        assert self._fd is not None, "a closed flow has no writer"
        try:
            return os.write(self._fd, data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:  # EPIPE: the process has closed its standard input
            if self._waiting:
                self._loop.remove_writer(self._fd)
                self._waiting.clear()
            os.close(self._fd)
            self._fd = None
            self._on_broken()
            return len(data)
