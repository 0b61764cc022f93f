"""What a client that comes back too late is told."""

from __future__ import annotations

from tests.support.clock import at
from tests.support.net.tunnels import KEY
from tether.agent.tunnels.tombstones import KEPT_S, Tombstones
from tether.attribution.disconnect import Disconnect
from tether.attribution.vocabulary import Basis, ConnectType, Party
from tether.protocol.tunnel.frames import MAX_OPENING, encode_opening
from tether.protocol.tunnel.join import JoinRefused, TunnelKey

STOPPED = Disconnect(
    connect_type=ConnectType.AGENT_TO_CLIENT,
    cause="workspace.stopped",
    basis=Basis.DECLARED,
    actor="user:bob",
    detail="lunch",
)
ATTACH = KEY.join(Party.CLIENT, "c1", 9, 0)
UNKNOWN = JoinRefused(code="tunnel_unknown")


def test_who_holds_the_key_learns_why_and_that_the_agent_says_so() -> None:
    stones = Tombstones()
    stones.add("c1", KEY, STOPPED, at(0))
    told = stones.refusal(ATTACH, at(60))
    assert (told.code, told.cause, told.actor, told.detail) == (
        "tunnel_over",
        "workspace.stopped",
        "user:bob",
        "lunch",
    )
    assert KEY.proves_refusal(told, "c1", 9)
    assert stones.code("c1", at(60)) == "tunnel_over"


def test_nobody_else_learns_anything() -> None:
    stones = Tombstones()
    stones.add("c1", KEY, STOPPED, at(0))
    assert stones.refusal(TunnelKey(bytes(32)).join(Party.CLIENT, "c1", 9, 0), at(1)) == UNKNOWN
    assert stones.refusal(KEY.join(Party.AGENT, "c1", 9, 0), at(1)) == UNKNOWN
    assert stones.refusal(KEY.join(Party.CLIENT, "c2", 9, 0), at(1)) == UNKNOWN


def test_a_day_later_and_beyond_the_bound_it_is_forgotten() -> None:
    stones = Tombstones(kept=3)
    for number in range(5):
        stones.add(f"c{number}", KEY, STOPPED, at(number))
    assert len(stones) == 3
    assert stones.code("c1", at(5)) == "tunnel_unknown"
    assert stones.code("c2", at(2 + KEPT_S)) == "tunnel_unknown"
    assert stones.code("c4", at(2 + KEPT_S)) == "tunnel_over"


def test_a_long_story_still_fits_a_first_frame() -> None:
    stones = Tombstones()
    long = Disconnect(
        connect_type=ConnectType.AGENT_TO_CLIENT,
        cause="workspace.stopped",
        basis=Basis.DECLARED,
        actor="\N{GRINNING FACE}" * 1000,
        detail="\N{GRINNING FACE}" * 1000,
    )
    stones.add("c1", KEY, long, at(0))
    assert len(encode_opening(stones.refusal(ATTACH, at(1)))) <= MAX_OPENING
