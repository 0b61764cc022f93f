"""Real WebSockets on loopback: our own server class behind uvicorn, and raw peers that misbehave."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn

from tests.support.deadline import DEADLINE_S
from tether.net.tasks import Tasks
from tether.net.transport.ws_server import CauseProtocol, ServerStream

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3


class _Server(uvicorn.Server):
    """A uvicorn that leaves the process's signals alone and says when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Served:
    """A server that accepts every WebSocket and hands it to the test."""

    def __init__(self, refuse: tuple[int, bytes] | None, max_size: int) -> None:
        self._refuse = refuse
        self._accepted: asyncio.Queue[ServerStream] = asyncio.Queue()
        self._over = asyncio.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.server = _Server(
            uvicorn.Config(
                self._app,
                interface="asgi3",
                ws=CauseProtocol,
                ws_max_size=max_size,
                ws_per_message_deflate=False,
                ws_ping_interval=None,
                lifespan="off",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=1,
            )
        )

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self._socket.getsockname()[1]}/"

    async def accepted(self) -> ServerStream:
        """The next accepted stream."""
        return await asyncio.wait_for(self._accepted.get(), DEADLINE_S)

    async def run(self) -> None:
        await self.server.serve(sockets=[self._socket])

    def release(self) -> None:
        """Let the handlers return."""
        self._over.set()

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        stream = ServerStream(scope, receive, send)
        if self._refuse is not None:
            await stream.refuse(*self._refuse)
            return
        await stream.accept()
        self._accepted.put_nowait(stream)
        await self._over.wait()


@contextlib.asynccontextmanager
async def serving(
    *, refuse: tuple[int, bytes] | None = None, max_size: int = 1 << 20
) -> AsyncIterator[Served]:
    """A running server; it is stopped at the end."""
    served = Served(refuse, max_size)
    tasks = Tasks("served")
    running = tasks.spawn(served.run(), "server")
    try:
        await asyncio.wait_for(served.server.up.wait(), DEADLINE_S)
        yield served
    finally:
        served.release()
        served.server.should_exit = True
        await running


def linger_0(sock: Any) -> None:
    """From now on closing `sock` sends a RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def raw_client(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connected WebSocket whose bytes the test writes itself."""
    host, port = url.removeprefix("ws://").rstrip("/").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        f"GET / HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


class RawServer:
    """Answers one upgrade (or with `answer`, anything), then leaves the bytes to the test."""

    def __init__(self, answer: bytes | None) -> None:
        self._answer = answer
        self._connected: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = (
            asyncio.Queue()
        )
        self.port = 0

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/"

    async def connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The next upgraded connection."""
        return await asyncio.wait_for(self._connected.get(), DEADLINE_S)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._answer is not None:
            await reader.read(1 << 16)
            writer.write(self._answer)
            writer.close()
            return
        head = await reader.readuntil(b"\r\n\r\n")
        lines = dict(line.split(b": ", 1) for line in head.split(b"\r\n") if b": " in line)
        key = lines[b"Sec-WebSocket-Key"]
        accept = base64.b64encode(hashlib.sha1(key + _GUID).digest())
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        self._connected.put_nowait((reader, writer))


@contextlib.asynccontextmanager
async def raw_server(answer: bytes | None = None) -> AsyncIterator[RawServer]:
    """A listening `RawServer`."""
    raw = RawServer(answer)
    server = await asyncio.start_server(raw.handle, "127.0.0.1", 0)
    raw.port = server.sockets[0].getsockname()[1]
    try:
        yield raw
    finally:
        server.close()
