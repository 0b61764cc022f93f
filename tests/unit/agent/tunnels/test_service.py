"""Tunnels that are served: one end each, judged once and told once, whichever way it comes."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.clock import LoopClock
from tests.support.net.cable import Cable
from tests.support.net.tunnels import KEY_TEXT, agent_over
from tether.agent.tunnels.probe import ProbeTunnel
from tether.agent.tunnels.service import ConnectionEnd, EndOrder, TunnelService
from tether.attribution import evidence as ev
from tether.attribution.vocabulary import Party, Vantage
from tether.log import get_logger
from tether.net.tasks import Tasks
from tether.protocol.messages.tunnel import TunnelOffer

pytestmark = pytest.mark.virtual_time

SAID = ev.GoodbyeSaid(
    vantage=Vantage.AGENT, at=0.0, by=Party.SERVER, cause="workspace.stopped", actor="user:alice"
)
ORDER = EndOrder(SAID, "The workspace was stopped by alice.")


class ServiceRig:
    """A service of probes, whose clients never answer."""

    def __init__(self) -> None:
        self.clock = LoopClock()
        self.tasks = Tasks("rig")
        self.told: list[ConnectionEnd] = []
        self.service = TunnelService(
            lambda stream, offer: ProbeTunnel(stream, clock=self.clock),
            clock=self.clock,
            log=get_logger("test"),
            event="probe closed",
            on_end=lambda served, end: self.told.append(end),
        )

    async def serve(self, connection_id: str) -> asyncio.Task[ConnectionEnd]:
        stream = agent_over(Cable(delay=0.01).right, self.clock, connection_id=connection_id)
        offer = TunnelOffer(
            connection_id=connection_id,
            relay_url="",
            ticket="",
            user="alice",
            public_key="",
            tunnel_key=KEY_TEXT,
        )
        serving = self.tasks.spawn(self.service.serve(stream, offer), connection_id)
        await asyncio.sleep(1)
        return serving


async def test_an_ordered_end_carries_the_cause_of_its_order_and_others_go_on() -> None:
    rig = ServiceRig()
    first, second = await rig.serve("t1"), await rig.serve("t2")
    rig.service.end(["t1", "t9"], ORDER)
    end = await first
    assert (end.connection_id, end.cell.facts) == ("t1", (SAID,))
    assert (end.disconnect.cause, end.disconnect.actor) == ("workspace.stopped", "user:alice")
    assert (rig.told, list(rig.service.live)) == ([end], ["t2"])
    rig.service.end(None, ORDER)
    await second
    assert not rig.service.live


async def test_a_cancelled_tunnel_without_a_cause_is_told_as_a_failure_of_the_agent() -> None:
    rig = ServiceRig()
    serving = await rig.serve("t1")
    await rig.tasks.cancel()
    assert serving.cancelled()
    (end,) = rig.told
    assert end.disconnect.cause == "agent.internal_error"
    assert [type(fact) for fact in end.cell.facts] == [ev.InternalFailure]
