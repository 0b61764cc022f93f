"""Where clients are sent to find an agent."""

from __future__ import annotations

import pytest

from tests.support.protocol.coordination import node
from tether.protocol.coordination.access import MAX_NODE_WORD
from tether.protocol.messages.coordination import MAX_ENDPOINTS, PeerUpdate, PeerUpdates, PeerWord
from tether.server.control.agent_endpoints import for_client, reachable, with_seen

AWAY, HERE = "198.51.100.1", "127.0.0.1"


@pytest.mark.parametrize(
    ("told", "seen", "client_ip", "expected"),
    [
        (["10.0.0.1:7"], "203.0.113.9", AWAY, ["10.0.0.1:7", "203.0.113.9:7"]),
        (["203.0.113.9:7"], "203.0.113.9", AWAY, ["203.0.113.9:7"]),
        (["10.0.0.1:7", "127.0.0.1:7"], HERE, AWAY, ["10.0.0.1:7"]),
        (["[::1]:7", "localhost:7"], "::1", AWAY, []),
        (["[::1]:7"], "2001:db8::1", "::1", ["[::1]:7", "[2001:db8::1]:7"]),
        (["10.0.0.1:7"], "", AWAY, ["10.0.0.1:7"]),
        ([], "203.0.113.9", AWAY, []),
        (["0.0.0.0:7", "[::]:7", "127.1:7", "0x7f.1:7", "2130706433:7"], "", AWAY, []),
        (["localhost.:7", "LocalHost:7", "dev.localhost:7", "127.8.9.1:7"], "", AWAY, []),
        (["[::ffff:127.0.0.1]:7", "[::ffff:0.0.0.0]:7", "[::1%lo]:7"], "", AWAY, []),
        (["router.example.com:7", "10.1:7"], "", AWAY, ["router.example.com:7", "10.1:7"]),
    ],
)
def test_a_client_is_sent_to_what_is_told_and_seen_and_to_no_others_loopback(
    told: list[str], seen: str, client_ip: str, expected: list[str]
) -> None:
    known = with_seen(node("w", *told), seen)
    assert reachable(known.endpoints, client_ip) == expected


def test_what_the_server_sees_makes_no_node_too_large() -> None:
    most = node("w", *(f"10.0.0.1:{port}" for port in range(1, MAX_ENDPOINTS + 1)))
    longest = node("w", ":" + "7" * (MAX_NODE_WORD - 1))
    assert [with_seen(one, "203.0.113.9") for one in (most, longest)] == [most, longest]


def test_of_an_update_only_the_endpoints_are_chosen() -> None:
    lost = PeerUpdate(id="w", kind=PeerWord.LOST, cause="server.shutdown")
    here = PeerUpdate(id="w", kind=PeerWord.NODE, node=node("w", "127.0.0.1:7", "10.0.0.1:7"))
    told = for_client(PeerUpdates(updates=[lost, here]), AWAY)
    assert told == PeerUpdates(
        updates=[lost, PeerUpdate(id="w", kind=PeerWord.NODE, node=node("w", "10.0.0.1:7"))]
    )
