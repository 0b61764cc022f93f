"""asyncssh's socket, which is a tunnel: an `asyncio.Transport` over a `TunnelEndpoint`.

Law: it knows bytes only, and never ends the tunnel: whoever knows the cause does that, before anything
is closed. What is written within one turn of the loop leaves as one piece (asyncssh writes two packets
for each piece of data). When too much waits in the tunnel, the protocol is told to pause, and to go on
when there is room again: asyncssh's windows are per channel, and all channels share the tunnel.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Protocol

from tether.net.link.driver import HIGH_WATER
from tether.net.tasks import Tasks
from tether.net.tunnel.endpoint import TunnelEndpoint


class Pausable(Protocol):
    """What is told to stop writing for a while."""

    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


class TunnelTransport(asyncio.Transport):
    """The writing half of a connection; what arrives is handed to asyncssh by the tunnel's sink."""

    def __init__(self, tunnel: TunnelEndpoint, tasks: Tasks, *, client: tuple[str, int]) -> None:
        """`client` is its address and port, as the server saw them."""
        super().__init__({"peername": client, "sockname": ("0.0.0.0", 22)})
        self._loop = asyncio.get_running_loop()
        self._tunnel = tunnel
        self._tasks = tasks
        self._protocol: Pausable | None = None
        self._pending: list[bytes | bytearray | memoryview] = []  # written in this turn of the loop
        self._waiting = False  # the protocol was told to pause
        self._closed = False

    def attach(self, protocol: Pausable) -> None:
        """Whom to pause. Call once, before anything is written."""
        self._protocol = protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closed:
            return
        if not self._pending:
            self._loop.call_soon(self.flush)
        self._pending.append(data)

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.write(b"".join(list_of_data))

    def flush(self) -> None:
        """Hand what was written to the tunnel now: call before it says goodbye."""
        if not self._pending:
            return
        data = self._pending[0] if len(self._pending) == 1 else b"".join(self._pending)
        self._pending.clear()
        self._tunnel.write(data)
        if self._tunnel.queued > HIGH_WATER and not self._waiting and not self._closed:
            self._waiting = True
            if self._protocol is not None:
                self._protocol.pause_writing()
            self._tasks.spawn(self._resume(), "room")

    def close(self) -> None:
        self.flush()
        self._closed = True

    def abort(self) -> None:
        self.close()

    def is_closing(self) -> bool:
        return self._closed

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return self._tunnel.queued + sum(map(len, self._pending))

    async def _resume(self) -> None:
        await self._tunnel.drain()
        self._waiting = False
        if not self._closed and self._protocol is not None:
            self._protocol.resume_writing()
