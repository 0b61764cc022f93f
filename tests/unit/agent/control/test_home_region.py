"""The agent's home region: real relays are measured, and the coordinator is told what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from functools import partial

import pytest

from tests.support.deadline import DEADLINE_S
from tether.agent.control import home_region
from tether.agent.control.home_region import HomeRegion
from tether.net.clock import SystemClock
from tether.net.derp.probe import measure
from tether.protocol.derp.latency import RegionLatency
from tether.protocol.messages.derp import DerpMap, DerpNode, DerpRegion

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("_no_proxies")]


@pytest.fixture
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ws_proxy", "wss_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@contextlib.asynccontextmanager
async def relay(*, delay: float = 0.0) -> AsyncIterator[str]:
    """Answers after `delay`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await asyncio.sleep(delay)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/derp"
    finally:
        server.close()


def a_map(**urls: str) -> DerpMap:
    return DerpMap(
        regions=[DerpRegion(name=name, nodes=[DerpNode(url=url)]) for name, url in urls.items()]
    )


class Agent:
    """What the coordinator was told, one after another."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[RegionLatency] = asyncio.Queue()
        self.home = HomeRegion(
            SystemClock(),
            on_change=lambda: self.told.put_nowait(self.home.region_latency),
            jitter=lambda: 0.0,
        )

    async def next(self) -> RegionLatency:
        return await asyncio.wait_for(self.told.get(), DEADLINE_S)


@contextlib.asynccontextmanager
async def an_agent() -> AsyncIterator[Agent]:
    agent = Agent()
    try:
        yield agent
    finally:
        agent.home.stop()


async def test_the_nearer_of_two_relays_becomes_home_and_both_distances_are_told() -> None:
    async with relay(delay=0.15) as slow, relay() as quick, an_agent() as agent:
        agent.home.map_came(a_map(ams=slow, fra=quick))
        told = await agent.next()
        assert (told.home, set(told.latency_s)) == ("fra", {"ams", "fra"})
        assert told.latency_s["fra"] < 0.15 <= told.latency_s["ams"]


async def test_a_dead_relay_is_no_home() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        dead = f"ws://127.0.0.1:{listener.getsockname()[1]}/derp"
    async with relay(delay=0.05) as alive, an_agent() as agent:
        agent.home.map_came(a_map(ams=dead, fra=alive))
        told = await agent.next()
        assert (told.home, set(told.latency_s)) == ("fra", {"fra"})


async def test_a_region_that_goes_off_the_map_is_left_before_anything_is_measured() -> None:
    async with relay(delay=0.15) as slow, relay() as quick, an_agent() as agent:
        agent.home.map_came(a_map(ams=slow, fra=quick))
        first = await agent.next()
        agent.home.map_came(a_map(ams=slow))
        assert agent.told.get_nowait() == RegionLatency("ams", {"ams": first.latency_s["ams"]})


async def test_a_relay_that_comes_onto_the_map_is_measured_and_may_become_home() -> None:
    async with relay(delay=0.15) as slow, relay() as quick, an_agent() as agent:
        agent.home.map_came(a_map(ams=slow))
        assert (await agent.next()).home == "ams"
        agent.home.map_came(a_map(ams=slow, fra=quick))
        assert (await agent.next()).home == "fra"


async def test_who_stops_does_not_wait_for_a_relay_that_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(home_region, "measure", partial(measure, timeout=10 * DEADLINE_S))
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        async with an_agent() as agent:
            agent.home.map_came(a_map(ams=f"ws://127.0.0.1:{deaf.getsockname()[1]}/derp"))
            loop = asyncio.get_running_loop()
            taken, _ = await loop.run_in_executor(None, deaf.accept)  # it is under way
        with taken:
            await asyncio.wait_for(loop.shutdown_default_executor(), DEADLINE_S)
