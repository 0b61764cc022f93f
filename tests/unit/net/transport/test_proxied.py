"""A listener behind a proxy that says who its client is, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.support.deadline import DEADLINE_S
from tether.net.tasks import Tasks
from tether.net.transport.http_server import HttpServer, bind, nobody

HEADER = b"PROXY TCP4 198.51.100.11 10.0.0.1 50123 80\r\n"


async def tells(scope: Any, receive: Any, send: Any) -> None:
    """Answers who the client is, and how that is known."""
    told = json.dumps([scope["client"], sorted(scope.get("extensions", {}))]).encode()
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "bytes": told})
        return
    length = [(b"content-length", str(len(told)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": told})


@contextlib.asynccontextmanager
async def listening(trusts: Callable[[str], bool]) -> AsyncIterator[int]:
    tasks = Tasks("test")
    server, sock = HttpServer(tells, trusts=trusts), bind("127.0.0.1", 0)
    serving = tasks.spawn(server.serve(sockets=[sock]), "server")
    try:
        async with asyncio.timeout(DEADLINE_S):
            await server.wait_started()
            yield sock.getsockname()[1]
    finally:
        server.should_exit = True
        await serving
        sock.close()


async def asked(port: int, *pieces: bytes, until: bytes = b"]]") -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            return await reader.readuntil(until)
        return b""
    finally:
        writer.close()


GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def everybody(address: str) -> bool:
    return True


@pytest.mark.parametrize("pieces", [(HEADER + GET,), (HEADER, GET), (b"P", HEADER[1:] + GET)])
async def test_a_trusted_proxy_says_who_its_client_is(pieces: tuple[bytes, ...]) -> None:
    async with listening(everybody) as port:
        assert b'["198.51.100.11", 50123]' in await asked(port, *pieces)


async def test_the_same_holds_for_websockets() -> None:
    async with listening(everybody) as port:
        told = await asked(port, HEADER + UPGRADE)
    assert b'["198.51.100.11", 50123]' in told
    assert b"tether.proxied" in told


async def test_a_proxy_that_says_nothing_is_the_client() -> None:
    async with listening(everybody) as port:
        assert b'["127.0.0.1", ' in await asked(port, GET)


async def test_nobody_else_is_believed() -> None:
    async with listening(nobody) as port:
        assert b"400 Bad Request" in await asked(port, HEADER + GET, until=b"\r\n")
        assert b'["127.0.0.1", ' in await asked(port, GET)


async def test_a_broken_header_ends_the_connection() -> None:
    async with listening(everybody) as port:
        assert await asked(port, b"PROXY TCP4 nonsense\r\n" + GET) == b""
