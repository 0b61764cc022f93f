"""A dialler that asks for small segments neither sends nor is sent larger ones."""

from __future__ import annotations

import asyncio
import socket
import sys

import pytest

from tests.support.net.ws import raw_server, serving
from tether.attribution.vocabulary import DialStage
from tether.net.transport.streams import DialFailed
from tether.net.transport.tcp_dial import SMALL_SEGMENT, connect_tcp
from tether.net.transport.tcp_info import read_tcp_info
from tether.net.transport.ws_client import dial

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="TCP_INFO is Linux's")


def segment(sock: socket.socket) -> int:
    counters = read_tcp_info(sock)
    assert counters is not None
    return counters["snd_mss"]


@pytest.mark.parametrize("small", [True, False])
async def test_both_ends_agree_on_what_the_dialler_asks_for(small: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        ours = await connect_tcp(*listener.getsockname(), small_segments=small)
        theirs, _ = await asyncio.get_running_loop().sock_accept(listener)
        with ours, theirs:
            sizes = [segment(ours) <= SMALL_SEGMENT, segment(theirs) <= SMALL_SEGMENT]
    assert sizes == [small, small]


async def test_the_last_address_that_fails_says_why() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    with pytest.raises(ConnectionRefusedError):
        await connect_tcp(*address, small_segments=True)


async def test_a_websocket_with_small_segments_is_one_like_any_other() -> None:
    async with serving() as server:
        stream = await dial(server.url, token="t", max_size=1 << 20, small_segments=True)
        counters = stream.counters()
        assert counters is not None
        assert counters["snd_mss"] <= SMALL_SEGMENT
        await stream.close(1000, "")


async def test_a_redirect_is_followed_with_small_segments_as_without() -> None:
    async with serving() as server:
        moved = f"HTTP/1.1 302 Found\r\nLocation: {server.url}\r\nContent-Length: 0\r\n\r\n"
        async with raw_server(moved.encode()) as first:
            url = f"ws://127.0.0.1:{first.port}/"
            stream = await dial(url, token="t", max_size=1 << 20, small_segments=True)
            counters = stream.counters()
            assert counters is not None
            assert counters["snd_mss"] <= SMALL_SEGMENT
            await stream.close(1000, "")


async def test_a_page_that_answers_instead_of_the_server_is_told_by_its_status() -> None:
    page = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    async with raw_server(page) as portal:
        to_it = f"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:{portal.port}/in\r\n\r\n"
        async with raw_server(to_it.encode()) as between:
            with pytest.raises(DialFailed) as raised:
                await dial(
                    f"ws://127.0.0.1:{between.port}/", token="t", max_size=1, small_segments=True
                )
    assert (raised.value.status, raised.value.stage) == (200, DialStage.HTTP)
