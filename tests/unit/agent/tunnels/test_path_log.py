"""What is reported of a tunnel's way, and how much of it."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.clock import EPOCH, LoopClock
from tests.support.net.tunnels import Joined
from tether.agent.tunnels.path_log import PathLog
from tether.protocol.messages.derp import PeerGone, RelayGoodbye, encode_word
from tether.protocol.messages.reports import PathRecord, ReportItem

pytestmark = pytest.mark.virtual_time


def record(at: float, event: str, carrier: int, **more: object) -> PathRecord:
    return PathRecord(
        connection_id="c1",
        at=EPOCH + at,
        event=event,
        carrier=carrier,
        **{"method": "derp", "where": "local", **more},  # type: ignore[arg-type]
    )


async def test_each_turn_of_the_way_is_one_item() -> None:
    clock = LoopClock()
    t, items = Joined(clock, delay=0.0), list[ReportItem]()
    PathLog(t.agent, clock=clock, post=items.append)
    t.relay(1)
    await asyncio.sleep(1)
    t.relay(2)
    await asyncio.sleep(1)
    await t.cables[2].left.send(encode_word(RelayGoodbye(cause="relay.restart")))
    await asyncio.sleep(1)
    await t.cables[1].left.send(encode_word(PeerGone(how="reset", errno="ECONNRESET")))
    await asyncio.sleep(1)
    t.cables[1].reset()
    await asyncio.sleep(1)
    t.cable(3)
    await asyncio.sleep(1)
    assert items == [
        record(0, "used", 1),
        record(2, "lost", 2, peer="relay", how="goodbye"),
        record(3, "detached", 1, peer="client", how="reset", errno="ECONNRESET"),
        record(5, "resumed", 3, method="direct", where="192.0.2.1:9", gap_s=2.0),
    ]
    await t.close()


async def test_a_tunnel_that_changes_without_end_is_reported_up_to_a_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tether.agent.tunnels.path_log.MAX_ITEMS", 5)
    clock = LoopClock()
    t, items = Joined(clock, delay=0.0), list[ReportItem]()
    log = PathLog(t.agent, clock=clock, post=items.append)
    for number in range(1, 21):
        t.relay(number)
        await asyncio.sleep(1)
        t.cables[number].reset()
        await asyncio.sleep(1)
    assert (len(items), log.changes) == (5, 40)
    await t.close()
