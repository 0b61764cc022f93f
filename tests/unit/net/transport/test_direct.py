"""Direct carriers over real sockets, on both loops."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.deadline import DEADLINE_S
from tests.support.net.tunnels import direct_pair, socket_pair
from tests.support.net.ws import linger_0
from tether.attribution.vocabulary import StreamEnd
from tether.net.tasks import Tasks
from tether.net.transport.direct import DirectStream, dial_direct
from tether.net.transport.streams import DialFailed, StreamLost

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[DirectStream, DirectStream]]:
    left, right = await direct_pair()
    try:
        async with asyncio.timeout(DEADLINE_S):
            yield left, right
    finally:
        left.abort()
        right.abort()


async def how_lost(stream: DirectStream) -> StreamLost:
    while True:
        try:
            await stream.recv()
        except StreamLost as lost:
            return lost


async def test_messages_of_every_size_arrive_whole_and_in_order() -> None:
    sizes = [0, 1, 3, 4, 5, 17, 1000, 65_553, 262_144, 0, 262_144, 1, 65_553, 200_000, 2]
    sent = [os.urandom(size) for size in sizes]
    async with pair() as (left, right):

        async def say() -> None:
            for message in sent:
                await left.send(message)

        saying = Tasks("test").spawn(say(), "say")
        assert [await right.recv() for _ in sent] == sent
        await saying


async def test_a_message_in_two_parts_is_one_message() -> None:
    async with pair() as (left, right):
        left.write(b"head", b"body")
        assert await right.recv() == b"headbody"


@pytest.mark.parametrize("step", [1, 2, 3, 5, 7])
async def test_a_stream_may_be_cut_anywhere(step: int) -> None:
    one, other = await socket_pair()
    stream = DirectStream(other)
    wire = b"".join(
        len(message).to_bytes(4, "big") + message for message in (b"", b"abc", b"", b"defghijk")
    )
    loop = asyncio.get_running_loop()
    try:
        got = []
        for start in range(0, len(wire), step):
            await loop.sock_sendall(one, wire[start : start + step])
            await asyncio.sleep(0.001)
        for _ in range(4):
            got.append(await stream.recv())
        assert got == [b"", b"abc", b"", b"defghijk"]
    finally:
        one.close()
        stream.abort()


async def test_who_attends_is_called_and_told_of_room() -> None:
    async with pair() as (left, right):
        got: list[bytes] = []
        rooms: list[bool] = []
        await left.send(b"before")
        right_lost: list[StreamLost] = []
        everything = asyncio.Event()

        def hear(message: bytes | memoryview) -> None:
            got.append(bytes(message))
            if len(got) == 1 + count:
                everything.set()

        left.attend(
            on_message=lambda message: None,
            on_lost=lambda lost: None,
            on_room=lambda: rooms.append(left.room),
        )
        count = 0
        while left.room:
            left.write(bytes(1), bytes(200_000))
            count += 1
        right.attend(on_message=hear, on_lost=right_lost.append, on_room=lambda: None)
        await everything.wait()
        assert [len(message) for message in got] == [6, *[200_001] * count]
        assert rooms == [True]
        assert not right_lost


async def test_a_fin_is_an_eof_and_a_rst_a_reset() -> None:
    async with pair() as (left, right):
        await left.send(b"last words")
        await left.close(1000, "")
        assert await right.recv() == b"last words"
        lost = await how_lost(right)
        assert (lost.how, lost.errno_name) == (StreamEnd.EOF, "")
        assert lost.counters is not None
    async with pair() as (left, right):
        linger_0(left._sock)
        left.abort()
        lost = await how_lost(right)
        assert (lost.how, lost.errno_name) == (StreamEnd.RESET, "ECONNRESET")
        with pytest.raises(StreamLost):
            await right.send(b"x")


async def test_last_words_survive_a_close_with_unread_data() -> None:
    """Closing a socket that has data unread sends a RST, which would take them away."""
    async with pair() as (left, right):
        for _ in range(50):
            await right.send(bytes(1000))
        await left.send(b"last words")
        closing = Tasks("test").spawn(left.close(1000, ""), "close")
        await asyncio.sleep(0.01)
        assert await right.recv() == b"last words"
        assert (await how_lost(right)).how is StreamEnd.EOF
        right.abort()
        await closing


async def test_our_own_close_ends_our_reader() -> None:
    async with pair() as (left, right):
        closing = Tasks("test").spawn(left.close(1000, ""), "close")
        with pytest.raises(StreamLost):
            await left.recv()
        right.abort()
        await closing
        await left.close(1000, "")
        assert left.counters() is not None


async def test_a_peer_that_never_closes_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tether.net.transport.direct.CLOSE_S", 0.05)
    async with pair() as (left, _):
        while left.room:
            left.write(bytes(100_000))
        closed: list[bool] = []
        left.when_closed(lambda: closed.append(True))
        await left.close(1000, "")
        assert closed == [True]


async def test_a_message_that_is_too_large_is_a_violation() -> None:
    one, other = await socket_pair()
    stream = DirectStream(other, max_size=1024)
    try:
        one.send(struct.pack(">I", 1025))
        lost = await how_lost(stream)
        assert lost.violation == "a message of 1025 bytes"
    finally:
        one.close()
        stream.abort()


async def test_an_agent_is_dialled() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        stream = await dial_direct(f"127.0.0.1:{listening.getsockname()[1]}")
        assert stream.local_address == "127.0.0.1"
        stream.abort()


async def test_a_dial_that_fails_says_why() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(DialFailed, match=r"127\.0\.0\.1"):
            await dial_direct(f"127.0.0.1:{port}")
    with pytest.raises(DialFailed):
        await dial_direct("host.invalid:1")


async def test_what_is_no_address_is_not_dialled() -> None:
    with pytest.raises(DialFailed, match="'x:1/y' is no address to dial") as raised:
        await dial_direct("x:1/y")
    assert raised.value.fatal


async def test_a_reset_after_much_data_is_noticed() -> None:
    """uvloop stops watching a socket in error after one call."""
    async with asyncio.timeout(DEADLINE_S):
        for _ in range(20):
            lost: list[StreamLost] = []
            one, other = await direct_pair()
            other.attend(on_message=lambda raw: None, on_lost=lost.append, on_room=lambda: None)
            while one.room:
                one.write(bytes(10_000))
            one._sock.shutdown(socket.SHUT_RDWR)
            while other.room:
                other.write(bytes(10_000))
                await asyncio.sleep(0)
            while not lost:
                await asyncio.sleep(0.001)
            one.abort()
            other.abort()
