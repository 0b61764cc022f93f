"""asyncssh's forwarders with eyes: what they carry is counted, and each ends with a reason.

Law: the only file here that knows asyncssh's forwarders. It changes nothing about how bytes flow: it
subclasses the socket's side of a forwarder, through which everything passes anyway, for both
directions and both kinds of sockets. What is seen goes to the `Forwards` of the SSH connection, which
decides with the policy, owns the ledger and tells the IDE watcher.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import asyncssh
from asyncssh.forward import SSHForwarder, SSHLocalPathForwarder, SSHLocalPortForwarder
from asyncssh.listener import SSHForwardListener, create_tcp_local_listener

from tether.agent.forwarding.forwards import Forwards
from tether.agent.forwarding.loopback import OTHER_LOOPBACK
from tether.net.host.interfaces import is_loopback
from tether.net.transport import tcp
from tether.protocol.messages.reports import ForwardEnd, ForwardKind, destination_of

_IMPOSSIBLE = (ValueError, OverflowError, TypeError)
"""What asyncio raises for a destination that cannot exist; stock asyncssh ends the connection."""

T = TypeVar("T")

_OTHER_WAY_ROUND = {
    ForwardEnd.CLIENT_CLOSED: ForwardEnd.WORKSPACE_CLOSED,
    ForwardEnd.WORKSPACE_CLOSED: ForwardEnd.CLIENT_CLOSED,
    ForwardEnd.WORKSPACE_RESET: ForwardEnd.FAILED,
}


class _Counted:
    """Mixed into the socket's side of a forwarder: counts bytes, and reports the end once."""

    _on_end: Callable[[ForwardEnd, int, int, str], None] | None = None
    _on_eof: Callable[[], None] | None = None
    _rx_bytes = _tx_bytes = 0
    _first_eof: ForwardEnd | None = None

    def write(self, data: bytes) -> None:
        self._rx_bytes += len(data)
        super().write(data)  # type: ignore[misc]

    def data_received(self, data: bytes, datatype: int | None = None) -> None:
        self._tx_bytes += len(data)
        super().data_received(data, datatype)  # type: ignore[misc]

    def write_eof(self) -> None:
        self._first_eof = self._first_eof or ForwardEnd.CLIENT_CLOSED
        super().write_eof()  # type: ignore[misc]

    def eof_received(self) -> bool:
        self._first_eof = self._first_eof or ForwardEnd.WORKSPACE_CLOSED
        self._tell_eof()
        more: bool = super().eof_received()  # type: ignore[misc]
        return more

    def _tell_eof(self) -> None:
        if self._on_eof is not None:
            self._on_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        self._tell_eof()
        if isinstance(exc, OSError):
            self._ended(ForwardEnd.WORKSPACE_RESET, type(exc).__name__)
        elif isinstance(exc, asyncssh.ChannelOpenError):
            self._ended(ForwardEnd.REFUSED, exc.reason)
        else:
            self._ended(self._first_eof or ForwardEnd.WORKSPACE_CLOSED)
        super().connection_lost(exc)  # type: ignore[misc]

    def close(self) -> None:
        self._ended(self._first_eof or ForwardEnd.CLIENT_CLOSED)
        super().close()  # type: ignore[misc]

    def _ended(self, end: ForwardEnd, detail: str = "") -> None:
        if self._on_end is not None:
            on_end, self._on_end = self._on_end, None
            on_end(end, self._rx_bytes, self._tx_bytes, detail)


class _SocketSide(_Counted, SSHForwarder):
    """Connected to where the client wants to go. A program that speaks first is heard before the
    channel is open; asyncssh would drop what it said, so it is kept here until then."""

    _released = _early_eof = False
    _early = b""

    def data_received(self, data: bytes, datatype: int | None = None) -> None:
        if self._released:
            super().data_received(data, datatype)
        else:
            self._early += data

    def eof_received(self) -> bool:
        if self._released:
            return super().eof_received()
        self._early_eof = True
        return True

    def release(self) -> None:
        """The channel is open: hand on what was kept."""
        self._released = True
        early, self._early = self._early, b""
        if early:
            self.data_received(early)
        if self._early_eof:
            self.eof_received()


class _ChannelSide(SSHForwarder):
    """The channel that the client opened to a `_SocketSide`."""

    def __init__(self, side: _SocketSide) -> None:
        super().__init__(side)
        self._side = side

    def session_started(self) -> None:
        super().session_started()
        self._side.release()


class _AcceptedPort(_Counted, SSHLocalPortForwarder):
    """Accepted on a port that the client asked to listen on."""

    seen: Callable[[_Counted, str], None]

    def forward(self, *args: object) -> None:
        self.seen(self, destination_of(str(args[0]), int(str(args[1]))))
        super().forward(*args)


class _AcceptedPath(_Counted, SSHLocalPathForwarder):
    """Accepted on a UNIX socket that the client asked to listen on."""

    seen: Callable[[_Counted, str], None]

    def forward(self, *args: object) -> None:
        self.seen(self, "")
        super().forward(*args)


class _ClientSide(_Counted, SSHForwarder):
    """The channel's side of a connection to the client: its ends mean the opposite of a socket's."""


async def connect_tcp(
    forwards: Forwards, host: str, port: int, *, origin: tuple[str, int] = ("", 0)
) -> SSHForwarder:
    """The forwarder that carries one direct-tcpip channel, for `connection_requested`.

    Raises:
        asyncssh.ChannelOpenError: policy does not allow it, or nothing could be connected to.
    """
    return await _connect(
        forwards,
        ForwardKind.DIRECT_TCPIP,
        destination_of(host, port),
        destination_of(*origin) if origin[0] else "",
        lambda: _dial(host, _port(port)),
    )


async def _dial(host: str, port: int) -> tuple[asyncio.Transport, _SocketSide]:
    try:
        sock = await tcp.connect_tcp(host, port)
    except ConnectionRefusedError as refused:
        if (other := OTHER_LOOPBACK.get(host)) is None:
            raise
        try:
            sock = await tcp.connect_tcp(other, port)
        except OSError:
            raise refused from None
    try:
        return await asyncio.get_running_loop().create_connection(_SocketSide, sock=sock)
    except BaseException:
        sock.close()
        raise


async def connect_unix(forwards: Forwards, path: str) -> SSHForwarder:
    """The forwarder that carries one direct-streamlocal channel, for `unix_connection_requested`.

    Raises:
        asyncssh.ChannelOpenError: policy does not allow it, or nothing could be connected to.
    """
    loop = asyncio.get_running_loop()
    return await _connect(
        forwards,
        ForwardKind.DIRECT_STREAMLOCAL,
        path,
        "",
        lambda: loop.create_unix_connection(_SocketSide, path),
    )


async def _connect(
    forwards: Forwards,
    kind: ForwardKind,
    destination: str,
    origin: str,
    dial: Callable[[], Awaitable[tuple[asyncio.Transport, _SocketSide]]],
) -> SSHForwarder:
    refusal = forwards.check_policy(kind, destination, origin)
    if refusal is not None:
        raise asyncssh.ChannelOpenError(asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, refusal.message)
    try:
        transport, side = await dial()
    except (OSError, *_IMPOSSIBLE) as wrong:
        forwards.failed(kind, destination, str(wrong), origin)
        raise asyncssh.ChannelOpenError(asyncssh.OPEN_CONNECT_FAILED, str(wrong)) from wrong
    name = transport.get_extra_info("peername")
    peer = (str(name[0]), int(name[1])) if isinstance(name, tuple) else None
    _follow(side, forwards, forwards.started(kind, destination, origin=origin, peer=peer))
    return _ChannelSide(side)


def _follow(side: _Counted, forwards: Forwards, number: int) -> None:
    def on_end(end: ForwardEnd, rx_bytes: int, tx_bytes: int, detail: str) -> None:
        forwards.ended(number, end, rx_bytes=rx_bytes, tx_bytes=tx_bytes, detail=detail)

    def on_eof() -> None:
        forwards.destination_closed(number)

    side._on_end = on_end
    side._on_eof = on_eof
    if side._first_eof is ForwardEnd.WORKSPACE_CLOSED:  # it spoke and left before we followed it
        on_eof()


async def carry_back(
    forwards: Forwards,
    kind: ForwardKind,
    open_channel: Callable[[Callable[[], SSHForwarder]], Awaitable[T]],
    factory: Callable[[], Any],
) -> T:
    """Open a channel to the client's ssh-agent or display, and see what `factory`'s forwarder carries.

    asyncssh itself makes the listeners that programs use for these.

    Raises:
        asyncssh.ChannelOpenError: the client does not take it.
    """

    def make() -> SSHForwarder:
        side = _ClientSide(factory()._peer)
        number = forwards.started(kind, str(kind))

        def on_end(end: ForwardEnd, rx_bytes: int, tx_bytes: int, detail: str) -> None:
            seen = _OTHER_WAY_ROUND.get(end, end)
            forwards.ended(number, seen, rx_bytes=tx_bytes, tx_bytes=rx_bytes, detail=detail)

        side._on_end = on_end
        return side

    try:
        return await open_channel(make)
    except asyncssh.ChannelOpenError as wrong:
        forwards.failed(kind, str(kind), wrong.reason)
        raise


async def listen_tcp(
    forwards: Forwards, conn: asyncssh.SSHServerConnection, host: str, port: int
) -> SSHForwardListener | None:
    """A listener on a port whose connections are carried to the client, for `server_requested`; None
    where policy does not allow one.

    Raises:
        OSError: it cannot be bound.
    """
    kind = ForwardKind.FORWARDED_TCPIP
    if forwards.check_policy(kind, destination_of(host, port)) is not None:
        return None
    loop = asyncio.get_running_loop()

    async def open_channel(factory: Any, orig_host: str, orig_port: int) -> Any:
        return await conn.create_connection(
            factory, host, listener.get_port(), orig_host, orig_port
        )

    def seen(side: _Counted, origin: str) -> None:
        destination = destination_of(host, listener.get_port())
        _follow(side, forwards, forwards.started(kind, destination, origin=origin))

    def accept() -> _AcceptedPort:
        side = _AcceptedPort(conn, open_channel)
        side.seen = seen
        return side

    try:
        listener = await forwards.listen(
            _port(port),
            lambda: _bind(
                host,
                lambda at: create_tcp_local_listener(conn, loop, accept, at, port),
                anywhere=forwards.policy.gateway_ports,
            ),
        )
    except _IMPOSSIBLE as wrong:
        raise OSError(str(wrong)) from wrong
    return listener


async def _bind(
    host: str, listen: Callable[[str], Awaitable[SSHForwardListener]], *, anywhere: bool
) -> SSHForwardListener:
    """Listen where the client asked for; where policy allows loopback only, there, whatever it asked
    for, as sshd does with `GatewayPorts no`. The client is answered for the address that it named."""
    if anywhere or is_loopback(host):
        return await listen(host)
    try:
        return await listen("localhost")
    except OSError as wrong:
        if wrong.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            raise
    return await listen("127.0.0.1")  # there is no other family here


def _port(number: int) -> int:
    """`number`, if it is a port: getaddrinfo(3) would cut off the rest and take another one."""
    if number > 65535:
        raise ValueError(f"there is no port {number}")
    return number


async def listen_unix(
    forwards: Forwards, conn: asyncssh.SSHServerConnection, path: str
) -> SSHForwardListener | None:
    """The same on a UNIX socket, for `unix_server_requested`.

    Raises:
        OSError: it cannot be bound.
    """
    kind = ForwardKind.FORWARDED_STREAMLOCAL
    if forwards.check_policy(kind, path) is not None:
        return None
    loop = asyncio.get_running_loop()

    async def open_channel(factory: Any) -> Any:
        return await conn.create_unix_connection(factory, path)

    def seen(side: _Counted, origin: str) -> None:
        _follow(side, forwards, forwards.started(kind, path))

    def accept() -> _AcceptedPath:
        side = _AcceptedPath(conn, open_channel)
        side.seen = seen
        return side

    try:
        _make_room(path)
        server = await loop.create_unix_server(accept, path)
    except _IMPOSSIBLE as wrong:  # a path with a NUL in it
        raise OSError(str(wrong)) from wrong
    return SSHForwardListener(conn, [server], path)


def _make_room(path: str) -> None:
    """Remove what is in the way, unless it is a folder, as OpenSSH's StreamLocalBindUnlink does."""
    where = Path(os.path.abspath(path))
    for folder in reversed(where.parents):
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
    if not where.is_dir():
        where.unlink(missing_ok=True)
