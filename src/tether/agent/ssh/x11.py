"""X11 displays for programs in the workspace: a listener and a cookie for each session that asks.

Law: a session's display lives as long as its channel. The range of numbers is shared by everybody on
the machine. Where it is exhausted, the display of ours that was used least recently is closed; displays
without a connected program come first, and connections that there are go on. Listeners are on loopback
only.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from asyncssh import SSHServerConnection
from asyncssh.forward import SSHLocalPortForwarder
from asyncssh.listener import SSHForwardListener, create_tcp_local_listener

from tether.agent.metrics import X11Error
from tether.agent.ssh import xauthority
from tether.log import get_logger
from tether.net.clock import Clock
from tether.net.tasks import Tasks

PORT = 6000
NUMBERS = range(10, 201)

LOCK_TRIES = 12
"""How often the lock of the cookies is asked for."""

LOCK_WAIT_S = 0.1
"""The pause before it is asked for again."""

_NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


@dataclass(eq=False, slots=True)
class Display:
    """One display. `close` may be called at any time, and again."""

    number: int
    cookies: str
    """The `.Xauthority` that its cookie is kept in."""
    cookie: bytes
    single: bool
    """Whether it is for one connection only."""
    close_listener: Callable[[], None]
    on_close: Callable[[Display], None]
    drawing: set[object] = field(default_factory=set)
    """The connections of programs."""
    closed: bool = False

    def close(self) -> None:
        """Take no more connections; those that it has go on."""
        if not self.closed:
            self.closed = True
            self.close_listener()
            self.on_close(self)


class Displays:
    """All displays of one agent."""

    def __init__(
        self,
        numbers: range = NUMBERS,
        *,
        clock: Clock,
        on_error: Callable[[X11Error], None] = lambda error: None,
    ) -> None:
        self._clock = clock
        self._on_error = on_error
        self._numbers = numbers
        self._open: dict[int, Display] = {}  # by number, in the order of their last use
        self._tasks = Tasks("displays")
        self._listening = asyncio.Lock()  # one display is opened at a time
        self._writing = asyncio.Lock()  # one change of the cookies at a time
        self._log = get_logger("displays")

    async def open(
        self,
        conn: SSHServerConnection,
        *,
        cookies: str,
        protocol: bytes,
        cookie: bytes,
        single: bool = False,
    ) -> Display:
        """A new display whose programs are carried to the client at the other end of `conn`.

        Args:
            conn: the SSH connection.
            cookies: the `.Xauthority` to keep the cookie in.
            protocol: of the cookie.
            cookie: what programs have to show.
            single: whether it is for one connection only.

        Raises:
            OSError: there is no port for it, or its cookie cannot be kept.
            ValueError: that is no cookie.
        """
        try:
            async with self._listening:
                display = await self._listen(conn, cookies, cookie, single)
        except OSError:
            self._on_error(X11Error.LISTENER)
            raise
        try:
            await self._write(partial(xauthority.put, cookies, display.number, protocol, cookie))
        except (OSError, ValueError):
            self._on_error(X11Error.XAUTHORITY)
            display.close()
            raise
        except BaseException:
            display.close()
            raise
        return display

    async def close(self) -> None:
        """Close what is open, and forget its cookies."""
        for display in list(self._open.values()):
            display.close()
        await self._tasks.wait(LOCK_TRIES * LOCK_WAIT_S)
        await self._tasks.cancel()

    # -- listeners -----------------------------------------------------------------------------

    async def _listen(
        self, conn: SSHServerConnection, cookies: str, cookie: bytes, single: bool
    ) -> Display:
        for number in self._numbers:
            if number not in self._open and (display := await self._try(conn, number)) is not None:
                break
        else:
            display = await self._try(conn, self._make_room())
            if display is None:
                raise OSError(errno.EADDRINUSE, "every display's port is in use")
        display.cookies = cookies
        display.cookie = cookie
        display.single = single
        return display

    async def _try(self, conn: SSHServerConnection, number: int) -> Display | None:
        """A display with this number; None where somebody else has its port."""
        loop = asyncio.get_running_loop()

        def accept() -> _Program:
            return _Program(conn, conn.create_x11_connection, display, self)

        async def listen(host: str) -> SSHForwardListener:
            return await create_tcp_local_listener(conn, loop, accept, host, PORT + number)

        try:
            listener = await _on_loopback(listen)
        except OSError as wrong:
            if wrong.errno == errno.EADDRINUSE:
                return None
            raise
        display = Display(number, "", b"", False, listener.close, self._closed)
        self._open[number] = display
        return display

    def _make_room(self) -> int:
        """Evict one display; its number."""
        found = next((d for d in self._open.values() if not d.drawing), None)
        found = found or next(iter(self._open.values()), None)
        if found is None:
            raise OSError(errno.EADDRINUSE, "every display's port is in use by others")
        self._log.warning("display evicted", display=found.number, drawing=len(found.drawing))
        self._on_error(X11Error.EVICTED)
        found.close()
        return found.number

    def used(self, display: Display) -> None:
        """A program connected to it."""
        if self._open.get(display.number) is display:
            self._open[display.number] = self._open.pop(display.number)

    # -- cookies -------------------------------------------------------------------------------

    def _closed(self, display: Display) -> None:
        del self._open[display.number]
        if display.cookie:
            self._tasks.spawn(self._forget(display), f"forget-{display.number}")

    async def _forget(self, display: Display) -> None:
        try:
            await self._write(
                partial(xauthority.remove, display.cookies, display.number, display.cookie)
            )
        except OSError as wrong:
            self._log.debug("cookie not removed", display=display.number, error=str(wrong))

    async def _write(self, write: Callable[..., None]) -> None:
        async with self._writing:
            for _ in range(LOCK_TRIES):
                try:
                    return await asyncio.to_thread(write, now=self._clock.now().wall)
                except xauthority.Locked:
                    await asyncio.sleep(LOCK_WAIT_S)
        raise OSError(errno.EBUSY, "another program keeps the cookies locked")


async def _on_loopback(
    listen: Callable[[str], Awaitable[SSHForwardListener]],
) -> SSHForwardListener:
    """Listen on both families, so that nobody else can be `localhost`; on IPv4 alone where there is
    no other."""
    try:
        return await listen("localhost")
    except OSError as wrong:
        if wrong.errno not in _NO_SUCH_ADDRESS:
            raise
    return await listen("127.0.0.1")


class _Program(SSHLocalPortForwarder):
    """A program's connection to a display."""

    def __init__(
        self, conn: SSHServerConnection, coro: Any, display: Display, displays: Displays
    ) -> None:
        super().__init__(conn, coro)
        self._display = display
        self._displays = displays

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        display = self._display
        if display.closed:  # accepted in the moment that it was closed
            transport.close()
            return
        self._displays.used(display)
        display.drawing.add(self)
        if display.single:
            display.close()
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._display.drawing.discard(self)
        super().connection_lost(exc)
