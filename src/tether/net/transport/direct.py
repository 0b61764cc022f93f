"""A direct carrier: TCP between client and agent, as a stream of messages with a length before each.

Law: reads and writes the socket itself. A message leaves within the call that sends it, as far as the
kernel takes it, and its parts are not joined first; what the kernel did not take of one message is all
that is ever queued. An arriving message is copied once, out of a buffer that all streams share. A stream
that stops says once how, with TCP_INFO. There is no close frame: an orderly end is announced by the
layer above.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from tether.attribution.vocabulary import StreamEnd
from tether.net.host.interfaces import is_loopback
from tether.net.transport.streams import DialFailed, MessageStream, StreamLost, translate
from tether.net.transport.tcp import (
    NoAddress,
    connect_tcp,
    join_address,
    plain_address,
    read_tcp_info,
    set_keepalive,
    split_address,
)
from tether.net.transport.ws_client import dial_failed
from tether.protocol.messages.codec import MAX_TUNNEL_FRAME

DIAL_TIMEOUT_S = 10.0

CLOSE_S = 1.0
"""How long a close may take, in which what is queued leaves and the peer is read up to its FIN."""

_LENGTH = 4
"""Bytes of the length before each message."""

_READ = 256 << 10
"""Bytes of one read at most."""

_ROUNDS = 8
"""Reads in one turn of the loop, before other streams have theirs."""

_shared = bytearray(_READ)
"""Filled and emptied within one callback, so that idle streams own no buffer."""

OnMessage = Callable[[bytes | memoryview], None]


class DirectStream(MessageStream):
    """Either awaited like any other `MessageStream`, or told by `attend` which callbacks to call."""

    def __init__(self, sock: socket.socket, *, max_size: int = MAX_TUNNEL_FRAME) -> None:
        """`sock` is connected. `max_size` is the largest message to accept, in bytes."""
        sock.setblocking(False)
        set_keepalive(sock)
        self._sock = sock
        self.max_size = max_size
        peer = _peer_of(sock)
        self.local_address = plain_address(sock.getsockname())
        self.remote_address: str = join_address(*peer[:2]) if peer else ""
        self._loop = asyncio.get_running_loop()
        self._unsent: deque[memoryview] = deque()  # what the kernel did not take yet
        self._unread = b""  # what came of a length that is not complete
        self._partial: memoryview | None = None  # a message that is not complete
        self._filled = 0  # bytes of `_partial` that have come
        self._lost: StreamLost | None = None  # how it ended
        self._closed = False  # by us
        self._discarding = False  # what still comes is of no interest
        self._broken = False  # a write failed, and `_lose` is about to be called
        self._inbox: deque[bytes | memoryview] = deque()  # for `recv`
        self._on_message: OnMessage = self._keep
        self._on_lost: Callable[[StreamLost], None] = lambda lost: None
        self._on_room: Callable[[], None] = lambda: None
        self._on_closed: Callable[[], None] = lambda: None
        self._changed: asyncio.Future[None] | None = None  # resolved at the next change of anything
        self._reading = False  # the loop watches for what comes
        self._read_on(True)

    # -- without waiting -----------------------------------------------------------------

    @property
    def room(self) -> bool:
        """Whether `write` may be called: the kernel has taken everything."""
        return not (self._unsent or self._closed or self._broken) and self._lost is None

    def attend(
        self,
        *,
        on_message: OnMessage,
        on_lost: Callable[[StreamLost], None],
        on_room: Callable[[], None],
    ) -> None:
        """Call these from now on; `on_message` at once for what has arrived already.

        Args:
            on_message: takes one message.
            on_lost: the stream has ended, otherwise than by `close`.
            on_room: everything queued has left, so that `write` may be called again.
        """
        self._on_message = on_message
        self._on_lost = on_lost
        self._on_room = on_room
        while self._inbox:
            on_message(self._inbox.popleft())
        if self._lost is not None:
            self._loop.call_soon(on_lost, self._lost)
        else:
            self._read_on(True)

    def when_closed(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the socket is closed."""
        self._on_closed = callback

    def write(self, head: bytes, body: bytes = b"") -> None:
        """Send one message. Only while there is `room`."""
        if self._lost is not None or self._closed:
            return
        size = len(head) + len(body)
        start = size.to_bytes(_LENGTH, "big") + head
        try:
            sent = self._sock.sendmsg((start, body) if body else (start,))
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as wrong:
            self._broken = True
            self._loop.call_soon(self._lose, *translate(wrong))
            return
        if sent == size + _LENGTH:
            return
        if sent < len(start):
            self._unsent.append(memoryview(start)[sent:])
            sent = len(start)
        if body:
            self._unsent.append(memoryview(body)[sent - len(start) :])
        self._loop.add_writer(self._sock.fileno(), self._write_on)

    # -- as a MessageStream ----------------------------------------------------------------

    async def send(self, message: bytes | str) -> None:
        data = message.encode() if isinstance(message, str) else message
        while self._unsent and self._lost is None:
            await self._change()
        if self._lost is not None or self._closed:
            raise self._lost or StreamLost(StreamEnd.CLOSED)
        self.write(data)

    async def recv(self) -> bytes:
        while not self._inbox:
            if self._lost is not None or self._closed:
                raise self._lost or StreamLost(StreamEnd.CLOSED)
            self._read_on(True)
            await self._change()
        return bytes(self._inbox.popleft())

    async def close(self, code: int, reason: str) -> None:
        """Let what is queued leave, send a FIN, and read on until the peer's. Closed any earlier, our
        kernel might answer with an RST, which takes from the peer what it has not read yet."""
        if self._closed:
            return
        self._closed = self._discarding = True
        try:
            async with asyncio.timeout(CLOSE_S):
                while self._unsent and self._lost is None:
                    await self._change()
                with contextlib.suppress(OSError):
                    self._sock.shutdown(socket.SHUT_WR)
                self._read_on(True)
                while self._lost is None:
                    await self._change()
        except TimeoutError:
            pass
        finally:
            self._release()

    def abort(self) -> None:
        """Drop the socket at once."""
        self._closed = True
        self._release()

    def counters(self) -> dict[str, int] | None:
        if self._lost is not None:
            return self._lost.counters
        return read_tcp_info(self._sock)

    # -- reading ---------------------------------------------------------------------------

    def _keep(self, message: bytes | memoryview) -> None:
        """Keep a message for `recv`, and read no further until that is called."""
        self._inbox.append(message)
        self._read_on(False)
        self._tell()

    def _read_on(self, wanted: bool) -> None:
        if wanted == self._reading or self._sock.fileno() < 0:
            return
        self._reading = wanted
        if wanted:
            self._loop.add_reader(self._sock.fileno(), self._readable)
        else:
            self._loop.remove_reader(self._sock.fileno())

    def _readable(self) -> None:
        """Read until nothing is left, for uvloop calls only once for a socket in error."""
        for _ in range(_ROUNDS):
            if not self._reading or not self._read_once():
                return
        self._loop.call_soon(self._readable)

    def _read_once(self) -> bool:
        """Read what is there; False if there was nothing."""
        kept, partial = len(self._unread), self._partial
        into = memoryview(_shared)
        into[:kept] = self._unread
        buffers = [into[kept:]] if partial is None else [partial[self._filled :], into]
        try:
            count = self._sock.recvmsg_into(buffers)[0]
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as wrong:
            self._lose(*translate(wrong))
            return False
        if count == 0:
            self._lose(StreamEnd.EOF)
            return False
        if self._discarding:
            return True
        if partial is not None:
            used = min(count, len(partial) - self._filled)
            self._filled += used
            count -= used
            if self._filled < len(partial):
                return True
            self._partial = None
            self._on_message(partial)
        self._unread = b""
        self._parse(into, kept + count)
        return True

    def _parse(self, data: memoryview, end: int) -> None:
        at = 0
        while end - at >= _LENGTH and not self._discarding:
            size = int.from_bytes(data[at : at + _LENGTH], "big")
            if size > self.max_size:
                self._lose(StreamEnd.OTHER, violation=f"a message of {size} bytes")
                return
            at += _LENGTH
            if end - at < size:
                self._partial = memoryview(bytearray(size))
                self._filled = end - at
                self._partial[: end - at] = data[at:end]
                return
            self._on_message(bytes(data[at : at + size]))
            at += size
        self._unread = bytes(data[at:end])

    # -- writing -----------------------------------------------------------------------------

    def _write_on(self) -> None:
        while self._unsent:
            try:
                sent = self._sock.sendmsg(self._unsent)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as wrong:
                self._lose(*translate(wrong))
                return
            while sent and sent >= len(self._unsent[0]):
                sent -= len(self._unsent.popleft())
            if sent:
                self._unsent[0] = self._unsent[0][sent:]
        self._loop.remove_writer(self._sock.fileno())
        self._tell()
        if not self._closed:
            self._on_room()

    # -- ending ------------------------------------------------------------------------------

    def _lose(self, how: StreamEnd, errno_name: str = "", *, violation: str = "") -> None:
        if self._lost is not None:
            return
        self._lost = StreamLost(
            how, errno_name=errno_name, violation=violation, counters=read_tcp_info(self._sock)
        )
        self._discarding = True
        self._forget_socket()
        self._tell()
        if not self._closed:
            self._on_lost(self._lost)

    def _forget_socket(self) -> None:
        self._read_on(False)
        self._unsent.clear()
        if self._sock.fileno() >= 0:
            self._loop.remove_writer(self._sock.fileno())

    def _release(self) -> None:
        if self._sock.fileno() >= 0:
            if self._lost is None:
                self._lost = StreamLost(StreamEnd.CLOSED, counters=read_tcp_info(self._sock))
            self._forget_socket()
            self._sock.close()
            self._tell()
            self._on_closed()

    async def _change(self) -> None:
        if self._changed is None:
            self._changed = self._loop.create_future()
        await asyncio.shield(self._changed)

    def _tell(self) -> None:
        if self._changed is not None:
            self._changed.set_result(None)
            self._changed = None


async def dial_direct(
    endpoint: str,
    *,
    timeout: float = DIAL_TIMEOUT_S,
    max_size: int = MAX_TUNNEL_FRAME,
    small_segments: bool = False,
) -> DirectStream:
    """Connect to an agent at `endpoint` (`host:port`); see `connect_tcp`.

    Raises:
        DialFailed: no connection came up; the text says why.
    """
    try:
        host, port = split_address(endpoint)
    except NoAddress:
        raise DialFailed(f"{endpoint[:80]!r} is no address to dial", fatal=True) from None
    try:
        async with asyncio.timeout(timeout):
            sock = await connect_tcp(host, port, small_segments=small_segments)
            if leads_here_unasked(host, sock):
                sock.close()
                raise DialFailed(f"{host} leads to this machine itself, and is not dialled")
            return DirectStream(sock, max_size=max_size)
    except Exception as wrong:
        raise dial_failed(wrong, endpoint) from wrong


def leads_here_unasked(host: str, sock: socket.socket) -> bool:
    """Whether a socket is connected to this machine's loopback although `host` does not say so: an
    agent must not send its clients to what listens there by a name or a spelling of its own."""
    peer = _peer_of(sock)
    if peer is None or is_loopback(host):
        return False
    address = ip_address(str(peer[0]).partition("%")[0])
    return bool((getattr(address, "ipv4_mapped", None) or address).is_loopback)


def _peer_of(sock: socket.socket) -> tuple[Any, ...] | None:
    try:
        return tuple(sock.getpeername())
    except OSError:  # gone before it was looked at: its first read will say how
        return None
