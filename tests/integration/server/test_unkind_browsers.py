"""Browsers that mean no good, over real sockets: one that asks too much, and one that never reads."""

from __future__ import annotations

import asyncio
import socket
import tracemalloc
from pathlib import Path

import pytest

from tests.support.deadline import DEADLINE_S
from tests.support.server.live_server import LiveServer, running
from tests.support.server.rows import connection_row
from tether.server.connlog.live import MAX_WAITING
from tether.server.connlog.rows import RowOpened

pytestmark = pytest.mark.anyio

CHANGES, DETAIL = 30_000, 2_000
AT_MOST = 20_000_000
"""Bytes that the server may hold: a third of what it is given to send."""


async def unread_stream(live: LiveServer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A stream whose reader takes next to nothing."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (live.host, live.port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=1024)
    token = await live.admin_token()
    request = f"GET /api/v1/live HTTP/1.1\r\nhost: tether\r\nauthorization: Bearer {token}\r\n\r\n"
    writer.write(request.encode())
    feed = live.server.connections.live
    async with asyncio.timeout(DEADLINE_S):
        while not feed.watchers:
            await asyncio.sleep(0.01)
    return reader, writer


async def test_a_stream_that_nobody_reads_is_bounded_and_goes_on_with_a_resync(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as live:
        reader, writer = await unread_stream(live)
        feed = live.server.connections.live
        change = RowOpened(connection_row(disconnect_detail="x" * DETAIL))
        tracemalloc.start()
        try:
            for number in range(CHANGES):
                feed.publish(change)
                if number % 100 == 0:
                    await asyncio.sleep(0)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert feed.longest_queue <= MAX_WAITING
        assert peak < AT_MOST
        async with asyncio.timeout(DEADLINE_S):
            seen = b""
            while b"event: resync" not in seen:
                seen = seen[-20:] + await reader.read(65_536)
        writer.close()
        async with asyncio.timeout(DEADLINE_S):
            while feed.watchers:
                await asyncio.sleep(0.01)


async def test_a_search_of_a_million_characters_is_refused_and_others_are_served(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as live:
        token = await live.admin_token()
        answers = []
        for text in ("x" * 1_000_000, "x"):
            reader, writer = await asyncio.open_connection(live.host, live.port)
            writer.write(
                f"GET /api/v1/log?q={text} HTTP/1.1\r\nhost: tether\r\nconnection: close\r\n"
                f"authorization: Bearer {token}\r\n\r\n".encode()
            )
            async with asyncio.timeout(DEADLINE_S):
                answers.append((await reader.readline()).split()[1])
            writer.close()
    assert answers[0] in (b"400", b"414", b"422"), answers
    assert answers[1] == b"200"
