"""Forwarded ports and sockets, in both directions: what asyncssh does, with its errors contained.

Law: everything that the workspace's user may do is allowed, and listeners are bound where the client
asked for (OpenSSH's `GatewayPorts clientspecified`). A destination that cannot exist (a host name that
no DNS can hold, a port above 65535) is a refused forward; stock asyncssh ends the whole connection.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import asyncssh
from asyncssh.forward import SSHForwarder

MAX_CHANNELS = 1024
"""Channels open at once on one SSH connection; each may hold a window of unread data."""

_IMPOSSIBLE = (ValueError, OverflowError, TypeError)


class Forwarding(asyncssh.SSHServer):
    """The forwarding half of an asyncssh server's callbacks."""

    def __init__(self) -> None:
        self._conn: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._conn = conn

    def connection_requested(  # type: ignore[override]  # a session may be awaitable
        self, dest_host: str, dest_port: int, orig_host: str, orig_port: int
    ) -> Awaitable[SSHForwarder]:
        self._check_room()
        return self._reach(
            lambda conn: conn.forward_connection(dest_host, _existing_port(dest_port))
        )

    def unix_connection_requested(  # type: ignore[override]
        self, dest_path: str
    ) -> Awaitable[SSHForwarder]:
        self._check_room()
        return self._reach(lambda conn: conn.forward_unix_connection(dest_path))

    async def server_requested(
        self, listen_host: str, listen_port: int
    ) -> asyncssh.SSHListener | bool:
        try:
            port = _existing_port(listen_port)
            return await self._connection_made().forward_local_port(
                listen_host, port, listen_host, port
            )
        except _IMPOSSIBLE:
            return False

    async def unix_server_requested(self, listen_path: str) -> asyncssh.SSHListener | bool:
        try:
            return await self._connection_made().forward_local_path(listen_path, listen_path)
        except _IMPOSSIBLE:
            return False

    async def _reach(
        self, dial: Callable[[asyncssh.SSHServerConnection], Awaitable[SSHForwarder]]
    ) -> SSHForwarder:
        connection = self._connection_made()
        try:
            forwarder = await dial(connection)
        except _IMPOSSIBLE as wrong:
            raise _refusal(wrong) from wrong
        if connection.is_closed():  # while we dialled: asyncssh would forget the socket
            forwarder.close()
        return forwarder

    def _check_room(self) -> None:
        if len(self._connection_made()._channels) > MAX_CHANNELS:
            raise asyncssh.ChannelOpenError(
                asyncssh.OPEN_RESOURCE_SHORTAGE,
                f"tether: this connection has {MAX_CHANNELS} channels already",
            )

    def _connection_made(self) -> asyncssh.SSHServerConnection:
        assert self._conn is not None, "asyncssh tells of the connection first"
        return self._conn


def _existing_port(number: int) -> int:
    """`number`, if it is one. getaddrinfo(3) would cut the rest off and take another port."""
    if number > 65535:
        raise ValueError(f"there is no port {number}")
    return number


def _refusal(wrong: Exception) -> asyncssh.ChannelOpenError:
    return asyncssh.ChannelOpenError(asyncssh.OPEN_CONNECT_FAILED, f"tether: {wrong}")
