"""Accepts direct carriers: anybody may connect, and must introduce itself with its first frame.

Law: bounded against strangers. A connection whose first small frame does not come in time is dropped,
and there are limits for connections that have not introduced themselves and for those from one address.
A connection that has introduced itself is handed on, and belongs to whoever takes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from tether.net.tasks import Tasks
from tether.net.transport.direct import DirectStream
from tether.net.transport.streams import StreamLost
from tether.protocol.messages.base import Garbage
from tether.protocol.tunnel.frames import MAX_OPENING, parse_carrier_frame
from tether.protocol.tunnel.join import Join

MAX_PENDING = 64
"""Connections that have not introduced themselves yet."""

MAX_PENDING_A_HOST = 16
"""Of those, the ones from one address: it leaves room for others."""

MAX_A_HOST = 64
"""Connections from one address, in use or not."""

OPENING_S = 5.0
"""How long the first frame may take."""

BACKLOG = 128
"""Connections that the kernel keeps for us until they are accepted."""

ACCEPTS = 32
"""Connections accepted in one turn of the loop."""

EXHAUSTED_S = 1.0
"""How long nothing is accepted after descriptors or memory ran out."""

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

OnAttach = Callable[[DirectStream, Join, bytes], Awaitable[None]]

_log = logging.getLogger("tether.direct")


class DirectListener:
    """Listens on bound sockets, from `start` to `close`."""

    def __init__(
        self,
        sockets: list[socket.socket],
        on_attach: OnAttach,
        *,
        max_pending: int = MAX_PENDING,
        max_pending_a_host: int = MAX_PENDING_A_HOST,
        max_a_host: int = MAX_A_HOST,
        opening_s: float = OPENING_S,
    ) -> None:
        """
        Args:
            sockets: bound ones; they are closed with the listener.
            on_attach: is handed the stream, the join that it began with, and the bytes of that; the
                stream is its own from then on.
            max_pending: connections that have not introduced themselves yet.
            max_pending_a_host: of those, the ones from one address.
            max_a_host: connections from one address, in use or not.
            opening_s: how long the first frame may take.
        """
        self._sockets = sockets
        self._on_attach = on_attach
        self._max_pending = max_pending
        self._max_pending_a_host = max_pending_a_host
        self._max_a_host = max_a_host
        self._opening_s = opening_s
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks("direct-listener")
        self._hosts: Counter[str] = Counter()  # connections by address
        self._pending: Counter[str] = Counter()  # those that have not introduced themselves
        self._again: asyncio.TimerHandle | None = None  # ends a pause
        self.dropped: Counter[str] = Counter()
        """Connections that were dropped, by why."""

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where it listens."""
        return [sock.getsockname()[:2] for sock in self._sockets]

    def start(self) -> None:
        """Accept from now on."""
        for sock in self._sockets:
            sock.setblocking(False)
            sock.listen(BACKLOG)
        self._listen()

    async def close(self) -> None:
        """Accept nothing more. Streams that were handed on are not touched."""
        if self._again is not None:
            self._again.cancel()
        for sock in self._sockets:
            self._loop.remove_reader(sock.fileno())
            sock.close()
        self._sockets = []
        await self._tasks.cancel()

    def _listen(self) -> None:
        self._again = None
        for sock in self._sockets:
            self._loop.add_reader(sock.fileno(), self._acceptable, sock)

    def _acceptable(self, listening: socket.socket) -> None:
        for _ in range(ACCEPTS):
            try:
                sock, peer = listening.accept()
            except OSError as wrong:
                if wrong.errno in _EXHAUSTED:
                    self._pause(wrong)
                return
            self._accepted(sock, peer[0])

    def _pause(self, wrong: OSError) -> None:
        _log.warning("direct connections cannot be accepted: %s", wrong)
        for sock in self._sockets:
            self._loop.remove_reader(sock.fileno())
        if self._again is None:
            self._again = self._loop.call_later(EXHAUSTED_S, self._listen)

    def _accepted(self, sock: socket.socket, host: str) -> None:
        why = ""
        if len(self._tasks) >= self._max_pending:
            why = "pending"
        elif self._pending[host] >= self._max_pending_a_host:
            why = "pending_host"
        elif self._hosts[host] >= self._max_a_host:
            why = "host"
        if why:
            self.dropped[why] += 1
            sock.close()
            return
        self._hosts[host] += 1
        try:
            stream = DirectStream(sock, max_size=MAX_OPENING)
        except OSError:  # reset before it was looked at
            self._gone(host)
            sock.close()
            return
        stream.when_closed(lambda: self._gone(host))
        self._pending[host] += 1
        introducing = self._tasks.spawn(self._introduce(stream), "introduce")
        introducing.add_done_callback(lambda _: self._introduced(host))

    def _introduced(self, host: str) -> None:
        self._pending[host] -= 1
        if self._pending[host] <= 0:
            del self._pending[host]

    async def _introduce(self, stream: DirectStream) -> None:
        why = "late"
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._opening_s):
                    why = "gone"
                    raw = await stream.recv()
                    why = "stranger"
                    opening: Any = parse_carrier_frame(raw)
                    if isinstance(opening, Join):
                        why = ""
                if not why:
                    await self._on_attach(stream, opening, raw)
                    return
        except (StreamLost, Garbage):
            pass
        except BaseException:
            stream.abort()
            raise
        self.dropped[why] += 1
        stream.abort()

    def _gone(self, host: str) -> None:
        self._hosts[host] -= 1
        if self._hosts[host] <= 0:
            del self._hosts[host]


def bind_direct(host: str, port: int) -> list[socket.socket]:
    """Sockets bound to `host` and `port`; "" is every address of every family, port 0 any free port.

    Raises:
        OSError: the address cannot be bound.
    """
    if host:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return [_bound(found[0][0], found[0][4])]
    if socket.has_dualstack_ipv6():
        with contextlib.suppress(OSError):
            return [_bound(socket.AF_INET6, ("::", port), dual=True)]
    return [_bound(socket.AF_INET, ("0.0.0.0", port))]


def _bound(family: int, address: Any, *, dual: bool = False) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
        sock.bind(address)
    except BaseException:
        sock.close()
        raise
    return sock
