"""Forwarded ports and sockets, in both directions: asyncssh's questions, answered.

Law: everything that the workspace's user may do is allowed unless policy says otherwise, and listeners
are bound to loopback unless policy allows what the client asked for (OpenSSH's `GatewayPorts`).
The connection's
`Forwards` sees what is carried; asyncssh carries it.
"""

from __future__ import annotations

from collections.abc import Awaitable

import asyncssh
from asyncssh.forward import SSHForwarder

from tether.agent.forwarding.forwards import Forwards
from tether.agent.forwarding.tracked import (
    connect_tcp,
    connect_unix,
    listen_tcp,
    listen_unix,
)

MAX_CHANNELS = 1024
"""Channels open at once on one SSH connection; each may hold a window of unread data."""


class ForwardingCallbacks(asyncssh.SSHServer):
    """The forwarding half of an asyncssh server's callbacks."""

    def __init__(self, forwards: Forwards) -> None:
        self._forwards = forwards
        self._conn: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._conn = conn

    def connection_requested(  # type: ignore[override]  # a session may be awaitable
        self, dest_host: str, dest_port: int, orig_host: str, orig_port: int
    ) -> Awaitable[SSHForwarder]:
        self._check_room()
        origin = (orig_host, orig_port)
        return self._reach(connect_tcp(self._forwards, dest_host, dest_port, origin=origin))

    def unix_connection_requested(  # type: ignore[override]
        self, dest_path: str
    ) -> Awaitable[SSHForwarder]:
        self._check_room()
        return self._reach(connect_unix(self._forwards, dest_path))

    async def server_requested(
        self, listen_host: str, listen_port: int
    ) -> asyncssh.SSHListener | bool:
        conn = self._connection_made()
        return await listen_tcp(self._forwards, conn, listen_host, listen_port) or False

    async def unix_server_requested(self, listen_path: str) -> asyncssh.SSHListener | bool:
        return await listen_unix(self._forwards, self._connection_made(), listen_path) or False

    async def _reach(self, dialling: Awaitable[SSHForwarder]) -> SSHForwarder:
        forwarder = await dialling
        if self._connection_made().is_closed():  # meanwhile: asyncssh would forget the socket
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
