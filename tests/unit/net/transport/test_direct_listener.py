"""The door for direct carriers: who introduces itself comes in, everybody else is bounded."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support.deadline import DEADLINE_S
from tests.support.net.tunnels import KEY
from tether.attribution.vocabulary import Party
from tether.net.host.interfaces import is_loopback, reachable_addresses
from tether.net.transport.direct import DirectStream, dial_direct
from tether.net.transport.direct_listener import DirectListener, bind_direct
from tether.net.transport.streams import StreamLost
from tether.net.transport.tcp import join_address
from tether.protocol.tunnel.frames import MAX_OPENING, encode_opening
from tether.protocol.tunnel.join import Join

pytestmark = pytest.mark.anyio
OPENING = encode_opening(KEY.join(Party.CLIENT, "c1", 2, 0))


class Door:
    def __init__(self, **limits: Any) -> None:
        self.came: list[tuple[DirectStream, Join, bytes]] = []
        self.changed = asyncio.Event()
        self.listener = DirectListener(bind_direct("127.0.0.1", 0), self._came, **limits)
        ((host, port),) = self.listener.addresses
        self.endpoint = join_address(host, port)
        self.dialled: list[DirectStream] = []

    async def _came(self, stream: DirectStream, attach: Join, raw: bytes) -> None:
        self.came.append((stream, attach, raw))
        self.changed.set()

    async def dial(self, *messages: bytes) -> DirectStream:
        stream = await dial_direct(self.endpoint)
        self.dialled.append(stream)
        for message in messages:
            await stream.send(message)
        return stream

    async def until(self, check: Callable[[], bool]) -> None:
        while not check():
            await asyncio.sleep(0.001)


@asynccontextmanager
async def door(**limits: Any) -> AsyncIterator[Door]:
    made = Door(**limits)
    made.listener.start()
    try:
        async with asyncio.timeout(DEADLINE_S):
            yield made
    finally:
        await made.listener.close()
        for stream in [*made.dialled, *(stream for stream, _, _ in made.came)]:
            stream.abort()


async def dropped(stream: DirectStream) -> bool:
    try:
        await stream.recv()
    except StreamLost:
        return True
    return False


async def test_who_introduces_itself_is_handed_on_with_its_frame() -> None:
    async with door() as here:
        await here.dial(OPENING)
        await here.until(lambda: bool(here.came))
        ((stream, attach, raw),) = here.came
        assert (attach.connection_id, attach.carrier, raw) == ("c1", 2, OPENING)
        assert stream.remote_address == join_address(*here.dialled[0]._sock.getsockname()[:2])
        assert not here.listener.dropped


@pytest.mark.parametrize(
    "first", [b"", b"\x09", b"\x04" + bytes(8), bytes(MAX_OPENING + 1)], ids=lambda b: str(len(b))
)
async def test_a_stranger_is_dropped(first: bytes) -> None:
    async with door() as here:
        assert await dropped(await here.dial(first))
        await here.until(lambda: sum(here.listener.dropped.values()) == 1)
        assert here.came == []


async def test_who_says_nothing_is_dropped_in_time() -> None:
    async with door(opening_s=0.05) as here:
        assert await dropped(await here.dial())


async def test_only_so_many_may_be_about_to_say_something() -> None:
    async with door(max_pending=3) as here:
        for _ in range(3):
            await here.dial()
        assert await dropped(await here.dial())
        assert here.listener.dropped == {"pending": 1}
        here.dialled[0].abort()  # makes room
        await here.until(lambda: here.listener.dropped["gone"] == 1)
        await here.dial(OPENING)
        await here.until(lambda: bool(here.came))


async def test_strangers_of_one_address_leave_room_for_those_of_others() -> None:
    async with door(max_pending=8, max_pending_a_host=2) as here:
        for _ in range(2):
            await here.dial()
        assert await dropped(await here.dial())
        assert here.listener.dropped == {"pending_host": 1}
        here.dialled[0].abort()  # makes room
        await here.until(lambda: here.listener.dropped["gone"] == 1)
        await here.dial(OPENING)
        await here.until(lambda: bool(here.came))


async def test_only_so_many_may_come_from_one_address() -> None:
    async with door(max_a_host=2) as here:
        for _ in range(2):
            await here.dial(OPENING)
        await here.until(lambda: len(here.came) == 2)
        assert await dropped(await here.dial(OPENING))
        here.came[0][0].abort()
        await here.dial(OPENING)
        await here.until(lambda: len(here.came) == 3)


async def test_a_closed_door_leaves_those_inside_alone() -> None:
    async with door() as here:
        client = await here.dial(OPENING)
        await here.until(lambda: bool(here.came))
        await here.listener.close()
        await here.came[0][0].send(b"still here")
        assert await client.recv() == b"still here"


def test_addresses_of_this_machine_alone_are_not_offered() -> None:
    found = reachable_addresses()
    assert len(set(found)) == len(found)
    assert not any(is_loopback(address) or address.startswith("fe80:") for address in found)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("192.0.2.1", False), ("x", False)],
)
def test_a_loopback_host_is_known(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_all_addresses_are_bound_at_once() -> None:
    (sock,) = bind_direct("", 0)
    try:
        sock.listen()
        with socket.create_connection(("127.0.0.1", sock.getsockname()[1]), timeout=DEADLINE_S):
            pass
    finally:
        sock.close()
