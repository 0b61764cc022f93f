"""A small HTTP CONNECT proxy on loopback, with or without a user name and password.

Law: real sockets; counts what it joined, so that a test can tell that it was used.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import quote

from tether.net.tasks import Tasks


class Proxy:
    """Joins whoever may with whatever they name."""

    def __init__(self, user: str, password: str, status: int) -> None:
        self._user, self._password, self._status = user, password, status
        self._wants = b""
        if user:
            pair = base64.b64encode(f"{user}:{password}".encode())
            self._wants = b"Basic " + pair + b"\r\n"
        self.joined: list[str] = []
        self.port = 0
        self._tasks = Tasks("proxy")

    def url(self, *, credentials: bool = True) -> str:
        who = (
            f"{quote(self._user)}:{quote(self._password, safe='')}@"
            if self._user and credentials
            else ""
        )
        return f"http://{who}127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            method, target, _ = head.split(b" ", 2)
            assert method == b"CONNECT"
            if self._wants and self._wants not in head:
                writer.write(
                    b"HTTP/1.1 407 Proxy Authentication Required\r\n"
                    b'Proxy-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\n\r\n'
                )
            elif self._status != 200:
                writer.write(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % self._status)
            else:
                host, _, port = target.decode().rpartition(":")
                far_reader, far_writer = await asyncio.open_connection(host.strip("[]"), int(port))
                self.joined.append(target.decode())
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
                self._tasks.spawn(_copy(reader, far_writer), "up")
                await _copy(far_reader, writer)
        writer.close()

    async def close(self) -> None:
        await self._tasks.cancel()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def proxying(
    *, user: str = "", password: str = "", status: int = 200
) -> AsyncIterator[Proxy]:
    """A proxy; `status` is its answer to those who may use it."""
    proxy = Proxy(user, password, status)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
