"""One contract for every `MessageStream`: the cable of the tests behaves as real sockets do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import pytest

from tests.support.deadline import DEADLINE_S
from tests.support.net.cable import Cable
from tests.support.net.ws import linger_0, serving
from tether.attribution.vocabulary import StreamEnd
from tether.net.tasks import Tasks
from tether.net.transport.streams import MessageStream, StreamLost
from tether.net.transport.ws_client import dial


class Pair:
    """Two ends and the ways to end the left one without a close."""

    left: MessageStream
    right: MessageStream

    def die(self) -> None:
        """The process at the left end is killed."""
        raise NotImplementedError

    def reset(self) -> None:
        """The left end sends a RST."""
        raise NotImplementedError


class CablePair(Pair):
    def __init__(self) -> None:
        self._cable = Cable(delay=0.001)
        self.left, self.right = self._cable.left, self._cable.right

    def die(self) -> None:
        self._cable.die(self._cable.left)

    def reset(self) -> None:
        self._cable.reset()


class SocketPair(Pair):
    def die(self) -> None:
        self.left._ws.transport.abort()  # type: ignore[attr-defined]

    def reset(self) -> None:
        transport = self.left._ws.transport  # type: ignore[attr-defined]
        linger_0(transport.get_extra_info("socket"))
        transport.abort()


@contextlib.asynccontextmanager
async def cable() -> AsyncIterator[Pair]:
    yield CablePair()


@contextlib.asynccontextmanager
async def dialled() -> AsyncIterator[Pair]:
    async with serving() as served:
        pair = SocketPair()
        pair.left = await dial(served.url, token="t", max_size=1 << 20)
        pair.right = await served.accepted()
        yield pair
        await pair.left.close(1000, "")


@contextlib.asynccontextmanager
async def accepted() -> AsyncIterator[Pair]:
    """The same sockets, seen from the other side."""

    class Turned(SocketPair):
        def die(self) -> None:
            self.left.abort()  # type: ignore[attr-defined]

        def reset(self) -> None:
            transport = self.left._protocol.transport  # type: ignore[attr-defined]
            linger_0(transport.get_extra_info("socket"))
            transport.abort()

    async with dialled() as other:
        pair = Turned()
        pair.left, pair.right = other.right, other.left
        yield pair


@pytest.fixture(params=[cable, dialled, accepted], ids=lambda make: make.__name__)
def both(request: pytest.FixtureRequest) -> AbstractAsyncContextManager[Pair]:
    made: AbstractAsyncContextManager[Pair] = request.param()
    return made


async def lost(stream: MessageStream) -> tuple[StreamEnd, str, int | None, str]:
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                await stream.recv()
            except StreamLost as it:
                return it.how, it.errno_name, it.close_code, it.close_reason


async def test_messages_keep_their_order_and_their_kind(
    both: AbstractAsyncContextManager[Pair],
) -> None:
    async with both as pair:
        sent: list[bytes | str] = [b"1", "2", b"", b"4"]
        for message in sent:
            await pair.left.send(message)
        assert [await pair.right.recv() for _ in sent] == sent


async def test_a_close_is_heard_with_its_code_and_reason(
    both: AbstractAsyncContextManager[Pair],
) -> None:
    async with both as pair:
        hearing = Tasks("test").spawn(lost(pair.right), "hear")
        await pair.left.close(4001, "because")
        assert await hearing == (StreamEnd.CLOSED, "", 4001, "because")


async def test_what_was_sent_before_a_close_is_read_before_it(
    both: AbstractAsyncContextManager[Pair],
) -> None:
    async with both as pair:
        await pair.left.send(b"last words")
        closing = Tasks("test").spawn(pair.left.close(1000, "goodbye"), "close")
        assert await pair.right.recv() == b"last words"
        assert await lost(pair.right) == (StreamEnd.CLOSED, "", 1000, "goodbye")
        await closing


async def test_our_own_close_ends_our_own_reader(
    both: AbstractAsyncContextManager[Pair],
) -> None:
    async with both as pair:
        tasks = Tasks("test")
        hearing, reading = tasks.spawn(lost(pair.right), "hear"), tasks.spawn(lost(pair.left), "me")
        await asyncio.sleep(0)
        await pair.left.close(4001, "because")
        assert (await reading)[:3] == (StreamEnd.CLOSED, "", 4001)
        await hearing


async def test_a_killed_peer_is_an_eof_after_its_last_words(
    both: AbstractAsyncContextManager[Pair],
) -> None:
    async with both as pair:
        await pair.left.send(b"last words")
        await asyncio.sleep(0.05)
        pair.die()
        assert await pair.right.recv() == b"last words"
        assert await lost(pair.right) == (StreamEnd.EOF, "", None, "")


async def test_a_reset_is_a_reset(both: AbstractAsyncContextManager[Pair]) -> None:
    async with both as pair:
        pair.reset()
        assert await lost(pair.right) == (StreamEnd.RESET, "ECONNRESET", None, "")


async def test_sending_after_a_reset_says_so(both: AbstractAsyncContextManager[Pair]) -> None:
    async with both as pair:
        pair.reset()
        await lost(pair.right)
        with pytest.raises(StreamLost) as raised:
            await pair.right.send(b"x")
        assert raised.value.how is StreamEnd.RESET


async def test_closing_a_lost_stream_is_harmless(both: AbstractAsyncContextManager[Pair]) -> None:
    async with both as pair:
        pair.reset()
        await lost(pair.right)
        await pair.right.close(1000, "goodbye")
        await pair.right.close(1000, "goodbye")


async def test_a_peer_that_does_not_read_makes_the_sender_wait(
    both: AbstractAsyncContextManager[Pair],
) -> None:
    async with both as pair:

        async def flood() -> None:
            for _ in range(400):
                await pair.left.send(b"x" * (64 << 10))

        tasks = Tasks("test")
        flooding = tasks.spawn(flood(), "flood")
        await tasks.wait(0.3)
        assert not flooding.done()
        for _ in range(400):
            await pair.right.recv()
        await flooding
