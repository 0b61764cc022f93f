"""What the log knows of relays and agents."""

from __future__ import annotations

import pytest

from tests.support.clock import EPOCH
from tests.support.server.log_rig import LogRig
from tether.protocol.messages.reports import PathRecord
from tether.server.connlog.queries.fleet import RelayLoss, relay_losses

pytestmark = pytest.mark.anyio


def lost(connection_id: str, where: str = "fra", peer: str = "relay") -> PathRecord:
    return PathRecord(
        connection_id=connection_id,
        at=EPOCH,
        event="detached",
        carrier=1,
        method="derp",
        where=where,
        peer=peer,
        how="eof",
    )


def resumed(connection_id: str, gap_s: float) -> PathRecord:
    return PathRecord(
        connection_id=connection_id,
        at=EPOCH,
        event="resumed",
        carrier=2,
        method="derp",
        where="ams",
        gap_s=gap_s,
    )


async def losses(rig: LogRig) -> list[RelayLoss]:
    now = rig.clock.now().wall
    return await rig.store.read(lambda tx: relay_losses(tx, now, span_s=3600.0))


async def test_a_relay_that_dies_is_found_though_every_tunnel_lives_on(rig: LogRig) -> None:
    for name in ("a", "b", "c"):
        await rig.tunnel(name)
        await rig.report(lost(name))
        rig.clock.mono += 2.0
    await rig.report(resumed("a", 0.5), resumed("b", 1.5))
    assert await losses(rig) == [
        RelayLoss(region="fra", began_at=EPOCH, tunnels=3, resumed=2, longest_gap_s=1.5)
    ]


async def test_one_tunnel_or_the_legs_of_clients_tell_of_no_relay(rig: LogRig) -> None:
    for name in ("a", "b", "c"):
        await rig.tunnel(name)
    await rig.report(lost("a"), lost("b", peer="client"), lost("c", where="ams"))
    assert await losses(rig) == []


async def test_losses_that_lie_apart_are_two(rig: LogRig) -> None:
    for name in ("a", "b"):
        await rig.tunnel(name)
    await rig.report(lost("a"), lost("b"))
    rig.clock.mono += 60.0
    await rig.report(lost("a"), lost("b"))
    assert [(one.began_at - EPOCH, one.tunnels) for one in await losses(rig)] == [
        (60.0, 2),
        (0.0, 2),
    ]
