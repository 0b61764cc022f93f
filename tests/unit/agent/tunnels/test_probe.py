"""The agent's end of a tunnel that measures itself, over a cable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.support.clock import LoopClock
from tests.support.net.cable import Cable
from tests.support.net.tunnels import agent_over, client_over
from tether.agent.tunnels.probe import ProbeTunnel
from tether.attribution import evidence as ev
from tether.attribution.vocabulary import Party, Vantage
from tether.net.tasks import Tasks
from tether.net.tunnel.endpoint import TunnelEndpoint
from tether.protocol.messages.base import Message
from tether.protocol.messages.probe import ProbeResult, ProbeStart, ProbeStop
from tether.protocol.messages.tunnel import Redraw

pytestmark = pytest.mark.virtual_time


class ProbeRig:
    def __init__(self) -> None:
        clock, cable = LoopClock(), Cable(delay=0.01, window=1 << 20)
        self.tasks, self.loop = Tasks("rig"), asyncio.get_running_loop()
        self.got, self.heard = bytearray(), asyncio.Queue[Message]()
        self.probe = ProbeTunnel(agent_over(cable.right, clock), clock=clock)
        self.client = TunnelEndpoint(
            client_over(cable.left, clock),
            me=Party.CLIENT,
            peer=Party.AGENT,
            clock=clock,
            version="0",
            on_data=self._data,
            on_message=self.heard.put_nowait,
        )
        self.ended = self.tasks.spawn(self.probe.run(), "probe")
        self.left = self.tasks.spawn(self.client.run(), "client")

    def _data(self, data: memoryview) -> None:
        self.got += data


@pytest.fixture
async def rig() -> AsyncIterator[ProbeRig]:
    rig = ProbeRig()
    yield rig
    await rig.tasks.cancel()


async def test_an_echo_comes_back(rig: ProbeRig) -> None:
    rig.client.send(ProbeStart(mode="echo"))
    rig.client.write(b"x" * 100_000)
    await asyncio.sleep(5)
    assert bytes(rig.got) == b"x" * 100_000


async def test_a_sink_counts_what_it_received_and_gives_nothing_back(rig: ProbeRig) -> None:
    rig.client.send(ProbeStart(mode="sink"))
    for _ in range(50):
        rig.client.write(bytes(100_000))
        await rig.client.drain()
    rig.client.send(ProbeStop())
    result = await rig.heard.get()
    assert isinstance(result, ProbeResult)
    assert (result.mode, result.bytes) == ("sink", 5_000_000)
    assert result.seconds > 0
    assert not rig.got


async def test_a_source_ends_by_itself_and_says_how_much_it_was(rig: ProbeRig) -> None:
    rig.client.send(ProbeStart(mode="source", seconds=2.0))
    result = await rig.heard.get()
    assert isinstance(result, ProbeResult)
    assert (result.mode, result.bytes) == ("source", len(rig.got))
    assert 2.0 <= result.seconds < 3.0


async def test_a_source_can_be_stopped_and_a_new_probe_begun(rig: ProbeRig) -> None:
    rig.client.send(ProbeStart(mode="source", seconds=50.0))
    await asyncio.sleep(1)
    rig.client.send(ProbeStop())
    stopped = await rig.heard.get()
    assert isinstance(stopped, ProbeResult)
    assert 0.5 < stopped.seconds < 2.0
    rig.client.send(Redraw())  # of no meaning here
    rig.client.send(ProbeStart(mode="sink"))
    rig.client.send(ProbeStop())
    assert isinstance(await rig.heard.get(), ProbeResult)


async def test_a_client_that_leaves_ends_it_with_its_own_fact(rig: ProbeRig) -> None:
    rig.client.send(ProbeStart(mode="source", seconds=50.0))
    await asyncio.sleep(1)
    rig.client.leave(because=ev.LocalSideClosed(vantage=Vantage.CLIENT, at=1.0))
    cell = await rig.ended
    assert [type(fact) for fact in cell.facts][-1] is ev.LocalSideClosed
