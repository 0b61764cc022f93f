"""Forwarded ports and sockets, in both directions: what asyncssh does, with its errors contained.

Law: everything that the workspace's user may do is allowed, and listeners are bound where the client
asked for (OpenSSH's `GatewayPorts clientspecified`). A destination that cannot exist (a host name that
no DNS can hold, a port above 65535) is a refused forward; stock asyncssh ends the whole connection.
"""

from __future__ import annotations

import asyncssh
from asyncssh.forward import SSHForwarder

_IMPOSSIBLE = (ValueError, OverflowError, TypeError)


class Forwarding(asyncssh.SSHServer):
    """The forwarding half of an asyncssh server's callbacks."""

    def __init__(self) -> None:
        self._conn: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._conn = conn

    async def connection_requested(  # type: ignore[override]  # a session may be awaitable
        self, dest_host: str, dest_port: int, orig_host: str, orig_port: int
    ) -> SSHForwarder:
        try:
            return await self._connection_made().forward_connection(dest_host, dest_port)
        except _IMPOSSIBLE as wrong:
            raise _refusal(wrong) from wrong

    async def unix_connection_requested(self, dest_path: str) -> SSHForwarder:  # type: ignore[override]
        try:
            return await self._connection_made().forward_unix_connection(dest_path)
        except _IMPOSSIBLE as wrong:
            raise _refusal(wrong) from wrong

    async def server_requested(
        self, listen_host: str, listen_port: int
    ) -> asyncssh.SSHListener | bool:
        try:
            return await self._connection_made().forward_local_port(
                listen_host, listen_port, listen_host, listen_port
            )
        except _IMPOSSIBLE:
            return False

    async def unix_server_requested(self, listen_path: str) -> asyncssh.SSHListener | bool:
        try:
            return await self._connection_made().forward_local_path(listen_path, listen_path)
        except _IMPOSSIBLE:
            return False

    def _connection_made(self) -> asyncssh.SSHServerConnection:
        assert self._conn is not None, "asyncssh tells of the connection first"
        return self._conn


def _refusal(wrong: Exception) -> asyncssh.ChannelOpenError:
    return asyncssh.ChannelOpenError(asyncssh.OPEN_CONNECT_FAILED, f"tether: {wrong}")
