"""The coordinator: who is told what of whom, and how a stream ends."""

from __future__ import annotations

import math

import pytest

from tests.support.protocol.coordination import drain, node, updates
from tether.attribution.causes.catalogue import SLOW_READERS
from tether.attribution.causes.codes import COORDINATION_OVERWRITTEN, COORDINATION_REFUSED
from tether.attribution.vocabulary import Party
from tether.protocol.coordination.access import (
    MAX_NODE_KEY,
    MAX_NODE_WORD,
    MAX_TUNNELS,
    AgentAccess,
    ClientAccess,
)
from tether.protocol.coordination.coordinator import (
    BATCH,
    MAX_WAITING,
    Coordinator,
    PeerStream,
    StreamEnding,
    StreamOver,
)
from tether.protocol.messages.coordination import (
    MAX_ENDPOINTS,
    Coordinate,
    CoordinateClosed,
    CoordinateError,
    Departure,
    Node,
    PeerUpdate,
    PeerUpdates,
    PeerWord,
)
from tether.protocol.messages.derp import MAX_REGIONS

AGENT, ANYTHING = AgentAccess(), ClientAccess(lambda peer_id: True)
AT_A, AT_B = node("ws", "10.0.0.1:7000"), node("ws", "10.0.0.2:7000")
CLIENT_NODE = node("c", as_of=2.0)


class Pair:
    """An agent `ws` and a client `c` with a tunnel to it, both silent about themselves."""

    def __init__(self) -> None:
        self.coordinator = Coordinator()
        self.agent, _ = self.coordinator.open("ws", AGENT)
        self.client, _ = self.coordinator.open("c", ANYTHING)
        self.ask(self.client, add_tunnel="ws")

    def ask(self, stream: PeerStream, **what: object) -> list[PeerStream]:
        return self.coordinator.request(stream, Coordinate(**what))  # type: ignore[arg-type]

    def introduced(self) -> Pair:
        """Both have said where they are, and each has taken it."""
        self.ask(self.agent, update_self=AT_A)
        self.ask(self.client, update_self=CLIENT_NODE)
        updates(self.agent), updates(self.client)
        return self


def lives(stream: PeerStream) -> bool:
    return stream.over is None


def here(of: Node, reason: str) -> PeerUpdate:
    return PeerUpdate(id=of.id, kind=PeerWord.NODE, node=of, reason=reason)


# -- nodes ---------------------------------------------------------------------------------


def test_a_client_without_its_agent_is_accepted_and_told_nothing() -> None:
    coordinator = Coordinator()
    client, _ = coordinator.open("c", ANYTHING)
    assert coordinator.request(client, Coordinate(update_self=CLIENT_NODE)) == []
    assert coordinator.request(client, Coordinate(add_tunnel="ws")) == []
    assert (updates(client), client.over) == ([], None)
    assert coordinator.node_of("c") == CLIENT_NODE


def test_an_agent_without_clients_is_accepted_and_told_nothing() -> None:
    coordinator = Coordinator()
    agent, woken = coordinator.open("ws", AGENT)
    assert woken == []
    assert coordinator.request(agent, Coordinate(update_self=AT_A)) == []
    assert (coordinator.node_of("ws"), len(coordinator)) == (AT_A, 1)
    assert coordinator.node_of("nobody") is None


def test_agent_and_client_are_told_where_the_other_is() -> None:
    pair = Pair()
    assert pair.ask(pair.agent, update_self=AT_A) == [pair.client]
    assert updates(pair.client) == [here(AT_A, "node update")]
    assert pair.ask(pair.client, update_self=CLIENT_NODE) == [pair.agent]
    assert updates(pair.agent) == [here(CLIENT_NODE, "node update")]


def test_a_tunnel_that_is_added_later_tells_both_sides_at_once() -> None:
    coordinator = Coordinator()
    agent, _ = coordinator.open("ws", AGENT)
    coordinator.request(agent, Coordinate(update_self=AT_A))
    client, _ = coordinator.open("c", ANYTHING)
    woken = coordinator.request(client, Coordinate(update_self=CLIENT_NODE, add_tunnel="ws"))
    assert set(woken) == {agent, client}
    assert updates(client) == [here(AT_A, "add tunnel")]
    assert updates(agent) == [here(CLIENT_NODE, "add tunnel")]


def test_a_tunnel_is_remembered_though_its_destination_is_absent() -> None:
    coordinator = Coordinator()
    client, _ = coordinator.open("c", ANYTHING)
    coordinator.request(client, Coordinate(update_self=CLIENT_NODE, add_tunnel="ws"))
    agent, woken = coordinator.open("ws", AGENT)
    assert woken == [agent]
    assert updates(agent) == [here(CLIENT_NODE, "init")]
    coordinator.request(agent, Coordinate(update_self=AT_A))
    assert updates(client) == [here(AT_A, "node update")]


def test_an_update_of_the_agent_while_a_client_connects_is_not_lost() -> None:
    pair = Pair()
    pair.ask(pair.agent, update_self=AT_A)
    pair.ask(pair.agent, update_self=AT_B)
    assert updates(pair.client) == [here(AT_A, "node update"), here(AT_B, "node update")]


def test_an_identical_node_is_not_sent_again_whenever_it_was_so() -> None:
    pair = Pair().introduced()
    assert pair.ask(pair.agent, update_self=node("ws", "10.0.0.1:7000", as_of=99.0)) == []
    assert pair.ask(pair.client, add_tunnel="ws") == []
    assert pair.ask(pair.agent, update_self=AT_B) == [pair.client]


def test_a_peer_is_never_told_of_itself() -> None:
    coordinator = Coordinator()
    client, _ = coordinator.open("c", ANYTHING)
    coordinator.request(client, Coordinate(update_self=CLIENT_NODE, add_tunnel="c"))
    assert updates(client) == []


def test_tunnels_in_both_directions_are_one_acquaintance() -> None:
    coordinator = Coordinator()
    one, _ = coordinator.open("c1", ANYTHING)
    other, _ = coordinator.open("c2", ANYTHING)
    coordinator.request(one, Coordinate(update_self=node("c1"), add_tunnel="c2"))
    coordinator.request(other, Coordinate(update_self=node("c2"), add_tunnel="c1"))
    assert updates(one) == [here(node("c2"), "node update")]
    assert updates(other) == [here(node("c1"), "add tunnel")]
    coordinator.request(one, Coordinate(disconnect=Departure(cause="client.closed")))
    assert [one.kind for one in updates(other)] == [PeerWord.DISCONNECTED]
    assert coordinator.tunnels_of("c2") == ("c1",)


def test_many_updates_are_taken_a_batch_at_a_time() -> None:
    coordinator = Coordinator()
    agent, _ = coordinator.open("ws", AGENT)
    for number in range(BATCH + 3):
        client, _ = coordinator.open(f"c{number}", ANYTHING)
        coordinator.request(client, Coordinate(update_self=node(f"c{number}"), add_tunnel="ws"))
    sizes = [len(one.updates) for one in drain(agent) if isinstance(one, PeerUpdates)]
    assert sizes == [BATCH, 3]


# -- ends ----------------------------------------------------------------------------------


def test_a_graceful_disconnect_is_disconnected_and_the_stream_is_closed_without_an_error() -> None:
    pair = Pair().introduced()
    leaving = Departure(cause="agent.shutdown", actor="signal:15", detail="upgrade")
    woken = pair.ask(pair.agent, disconnect=leaving)
    assert set(woken) == {pair.agent, pair.client}
    assert updates(pair.client) == [
        PeerUpdate(
            id="ws",
            kind=PeerWord.DISCONNECTED,
            reason="graceful disconnect",
            cause="agent.shutdown",
            actor="signal:15",
        )
    ]
    assert drain(pair.agent) == [
        CoordinateClosed(error="", cause="agent.shutdown", actor="signal:15", detail="upgrade")
    ]
    assert pair.agent.over == StreamOver(
        ending=StreamEnding.LEFT, cause="agent.shutdown", actor="signal:15", detail="upgrade"
    )


def test_a_stream_that_just_ends_is_lost() -> None:
    pair = Pair().introduced()
    assert pair.coordinator.lost(pair.agent, "agent.vanished") != []
    assert updates(pair.client) == [
        PeerUpdate(id="ws", kind=PeerWord.LOST, reason="lost", cause="agent.vanished")
    ]
    assert (drain(pair.agent), pair.coordinator.node_of("ws")) == ([], None)


def test_who_was_never_sent_is_neither_lost_nor_disconnected() -> None:
    pair = Pair()
    pair.coordinator.lost(pair.agent, "agent.vanished")
    pair.ask(pair.client, disconnect=Departure(cause="client.closed"))
    assert drain(pair.client) == [CoordinateClosed(cause="client.closed")]


def test_the_tunnels_of_a_source_end_with_it_and_those_to_it_are_kept() -> None:
    pair = Pair().introduced()
    pair.coordinator.lost(pair.agent, "agent.vanished")
    assert pair.coordinator.tunnels_of("c") == ("ws",)
    pair.coordinator.lost(pair.client, "client.vanished")
    assert pair.coordinator.tunnels_of("c") == ()


def test_an_agent_that_comes_back_pushes_its_node_and_is_pushed_the_others_at_once() -> None:
    pair = Pair().introduced()
    pair.coordinator.lost(pair.agent, "agent.vanished")
    updates(pair.client)
    again, _ = pair.coordinator.open("ws", AGENT)
    assert updates(again) == [here(CLIENT_NODE, "init")]
    pair.ask(again, update_self=AT_A)
    assert updates(pair.client) == [here(AT_A, "node update")]


def test_removing_a_tunnel_is_a_disconnect_both_ways_and_no_more_updates() -> None:
    pair = Pair().introduced()
    assert set(pair.ask(pair.client, remove_tunnel="ws")) == {pair.agent, pair.client}
    gone = [(pair.client, "ws"), (pair.agent, "c")]
    for stream, of in gone:
        assert updates(stream) == [
            PeerUpdate(id=of, kind=PeerWord.DISCONNECTED, reason="remove tunnel")
        ]
    assert pair.ask(pair.agent, update_self=AT_B) == []
    assert pair.ask(pair.client, remove_tunnel="ws") == []


def test_removing_a_tunnel_to_an_absent_peer_forgets_it() -> None:
    coordinator = Coordinator()
    client, _ = coordinator.open("c", ANYTHING)
    coordinator.request(client, Coordinate(add_tunnel="ws"))
    assert coordinator.request(client, Coordinate(remove_tunnel="ws")) == []
    assert coordinator.tunnels_of("c") == ()


def test_a_second_stream_of_the_same_peer_overwrites_the_older_one() -> None:
    pair = Pair().introduced()
    newer, woken = pair.coordinator.open("ws", AGENT)
    assert set(woken) == {pair.agent, newer}
    assert drain(pair.agent) == [
        CoordinateClosed(
            error="peer ID overwritten by new connection", cause=COORDINATION_OVERWRITTEN
        )
    ]
    assert pair.agent.over is not None
    assert pair.agent.over.ending is StreamEnding.OVERWRITTEN
    assert (pair.agent.overwrites, newer.overwrites) == (0, 1)
    assert updates(newer) == [here(CLIENT_NODE, "init")]
    assert updates(pair.client) == [], "its peers are not told of a loss that was none"


def test_the_end_of_an_overwritten_stream_does_not_touch_the_newer_one() -> None:
    pair = Pair().introduced()
    newer, _ = pair.coordinator.open("ws", AGENT)
    pair.coordinator.lost(pair.agent, "agent.vanished")
    assert pair.ask(pair.agent, update_self=AT_B) == []
    pair.ask(newer, update_self=AT_B)
    assert updates(pair.client) == [here(AT_B, "node update")]


def test_a_coordinator_that_closes_ends_every_stream_and_takes_no_more() -> None:
    pair = Pair().introduced()
    woken = pair.coordinator.close("server.shutdown", actor="signal:15")
    assert set(woken) == {pair.agent, pair.client}
    told = CoordinateClosed(error="coordinator closed", cause="server.shutdown", actor="signal:15")
    assert drain(pair.agent) == drain(pair.client) == [told]
    late, _ = pair.coordinator.open("ws", AGENT)
    assert drain(late) == [told]
    assert len(pair.coordinator) == 0
    pair.coordinator.reopen()
    again, woken = pair.coordinator.open("ws", AGENT)
    assert (again.over, woken) == (None, [])


def test_an_unhealthy_coordinator_says_so() -> None:
    pair = Pair()
    pair.coordinator.close("server.database_unavailable", error="coordinator unhealthy")
    assert drain(pair.agent) == [
        CoordinateClosed(error="coordinator unhealthy", cause="server.database_unavailable")
    ]


# -- a peer that does not read -------------------------------------------------------------


@pytest.mark.parametrize("silent", ["agent", "client"])
def test_a_peer_that_takes_nothing_is_removed_when_its_buffer_is_full(silent: str) -> None:
    pair = Pair().introduced()
    stream, other = (pair.agent, pair.client) if silent == "agent" else (pair.client, pair.agent)
    for number in range(MAX_WAITING):
        pair.ask(other, update_self=node(other.peer_id, f"h:{number}"))
    assert lives(stream)
    pair.ask(other, update_self=node(other.peer_id, "h:more"))
    assert stream.over is not None
    assert (stream.over.ending, stream.over.cause) == (
        StreamEnding.OVERFLOWED,
        SLOW_READERS[Party(silent)],
    )
    assert drain(stream) == [
        CoordinateClosed(
            error="failed to update tunnel peer mapping: too many updates are not taken",
            cause=f"{silent}.not_reading",
        )
    ], "what waited is dropped: memory is bounded"
    assert updates(other) == [
        PeerUpdate(
            id=stream.peer_id,
            kind=PeerWord.DISCONNECTED,
            reason="failed update",
            cause=f"{silent}.not_reading",
        )
    ]


def test_a_full_buffer_that_fills_another_removes_both_and_nobody_else() -> None:
    pair = Pair().introduced()
    third, _ = pair.coordinator.open("c3", ANYTHING)
    pair.ask(third, update_self=node("c3"), add_tunnel="ws")
    updates(third)
    for number in range(MAX_WAITING):
        pair.ask(pair.client, ready_for_handshake=[])
        pair.coordinator._put(pair.client, CoordinateError(error=f"{number}"))
        pair.coordinator._put(pair.agent, CoordinateError(error=f"{number}"))
    pair.ask(pair.client, update_self=node("c", "h:1"))
    assert pair.agent.over is not None and pair.agent.over.ending is StreamEnding.OVERFLOWED
    assert pair.client.over is not None and pair.client.over.ending is StreamEnding.OVERFLOWED
    assert third.over is None
    assert [one.kind for one in updates(third)] == [PeerWord.DISCONNECTED]


# -- ready for handshake -------------------------------------------------------------------


def test_an_agents_word_that_it_is_ready_reaches_its_tunnel_peer() -> None:
    pair = Pair().introduced()
    assert pair.ask(pair.agent, ready_for_handshake=["c"]) == [pair.client]
    assert updates(pair.client) == [PeerUpdate(id="ws", kind=PeerWord.READY_FOR_HANDSHAKE)]


def test_ready_without_a_shared_tunnel_is_an_error_in_band_and_the_stream_is_kept() -> None:
    pair = Pair().introduced()
    pair.ask(pair.agent, ready_for_handshake=["stranger"])
    pair.ask(pair.client, update_self=node("c", "h:1"))
    assert drain(pair.agent) == [
        CoordinateError(
            error='ready for handshake error: you do not share a tunnel with "stranger"'
        ),
        PeerUpdates(updates=[here(node("c", "h:1"), "node update")]),
    ]
    assert pair.agent.over is None


def test_an_error_keeps_its_place_among_the_updates() -> None:
    pair = Pair().introduced()
    pair.ask(pair.client, update_self=node("c", "h:1"))
    pair.ask(pair.agent, ready_for_handshake=["stranger"])
    kinds = [type(one) for one in drain(pair.agent)]
    assert kinds == [PeerUpdates, CoordinateError]


def test_ready_in_the_same_breath_as_a_disconnect_is_too_late() -> None:
    pair = Pair().introduced()
    leaving = Departure(cause="agent.shutdown")
    pair.ask(pair.agent, disconnect=leaving, ready_for_handshake=["c"])
    assert [one.kind for one in updates(pair.client)] == [PeerWord.DISCONNECTED]


# -- what a peer may not ---------------------------------------------------------------------


def ended(stream: PeerStream) -> tuple[StreamEnding, str, str]:
    assert stream.over is not None
    return stream.over.ending, stream.over.cause, stream.over.error


def test_agents_cannot_open_tunnels() -> None:
    pair = Pair().introduced()
    pair.ask(pair.agent, add_tunnel="c")
    assert ended(pair.agent) == (
        StreamEnding.VIOLATED,
        "agent.protocol_error",
        "agents cannot open tunnels",
    )
    assert updates(pair.client) == [
        PeerUpdate(id="ws", kind=PeerWord.LOST, reason="lost", cause="agent.protocol_error")
    ]
    assert drain(pair.agent) == [
        CoordinateClosed(
            error="agents cannot open tunnels",
            cause="agent.protocol_error",
            detail="agents cannot open tunnels",
        )
    ]


def test_no_agent_can_reach_anybody() -> None:
    assert AGENT.may_reach("c") is False


def test_clients_open_only_the_tunnels_that_they_may() -> None:
    coordinator = Coordinator()
    client, _ = coordinator.open("c", ClientAccess(lambda peer_id: peer_id == "mine"))
    coordinator.request(client, Coordinate(add_tunnel="mine"))
    assert client.over is None
    coordinator.request(client, Coordinate(add_tunnel="theirs"))
    assert ended(client) == (
        StreamEnding.REFUSED,
        COORDINATION_REFUSED,
        "workspace agent not found or you do not have permission",
    )
    assert coordinator.tunnels_of("c") == ()


def test_clients_may_not_send_ready_for_handshake() -> None:
    pair = Pair().introduced()
    pair.ask(pair.client, ready_for_handshake=["ws"])
    assert ended(pair.client)[:2] == (StreamEnding.VIOLATED, "client.protocol_error")


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        (node("other"), "a node that claims the id of another peer"),
        (node("ws", *[f"h:{n}" for n in range(10_000)]), "a node with 10000 endpoints"),
        (
            Node(id="ws", as_of=1.0, region_latency={f"r{n}": 0.1 for n in range(MAX_REGIONS + 1)}),
            f"a node with latencies of {MAX_REGIONS + 1} regions",
        ),
        (node("ws", "h" * (MAX_NODE_WORD + 1)), "a node with words that are none"),
        (
            Node(id="ws", as_of=1.0, ssh_host_key="k" * (MAX_NODE_KEY + 1)),
            "a node with words that are none",
        ),
        (Node(id="ws", as_of=math.inf), "a node with numbers that are none"),
        (
            Node(id="ws", as_of=1.0, region_latency={"a": math.nan}),
            "a node with numbers that are none",
        ),
    ],
)
def test_a_node_that_is_none_ends_its_stream_and_is_not_kept(bad: Node, what: str) -> None:
    pair = Pair().introduced()
    pair.ask(pair.agent, update_self=bad)
    assert ended(pair.agent) == (StreamEnding.VIOLATED, "agent.protocol_error", what)
    assert [one.kind for one in updates(pair.client)] == [PeerWord.LOST]
    assert pair.coordinator.node_of("ws") is None


def test_the_largest_node_is_taken() -> None:
    pair = Pair().introduced()
    largest = Node(
        id="ws",
        as_of=1.0,
        endpoints=["h" * MAX_NODE_WORD] * MAX_ENDPOINTS,
        region_latency={f"r{n}": 0.1 for n in range(MAX_REGIONS)},
        ssh_host_key="k" * MAX_NODE_KEY,
    )
    pair.ask(pair.agent, update_self=largest)
    assert pair.coordinator.node_of("ws") == largest


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        (Coordinate(add_tunnel="w" * (MAX_NODE_WORD + 1)), "a tunnel to an id that is none"),
        (Coordinate(remove_tunnel="w" * (MAX_NODE_WORD + 1)), "a tunnel to an id that is none"),
        (
            Coordinate(disconnect=Departure(cause="server.shutdown")),
            "a disconnect with words that are not this peer's to say",
        ),
        (
            Coordinate(
                disconnect=Departure(cause="client.closed", detail="d" * (MAX_NODE_WORD + 1))
            ),
            "a disconnect with words that are not this peer's to say",
        ),
    ],
)
def test_what_no_client_may_say_is_a_violation(asked: Coordinate, what: str) -> None:
    pair = Pair().introduced()
    pair.coordinator.request(pair.client, asked)
    assert ended(pair.client) == (StreamEnding.VIOLATED, "client.protocol_error", what)


def test_the_tunnels_of_one_source_are_bounded() -> None:
    coordinator = Coordinator()
    client, _ = coordinator.open("c", ANYTHING)
    for number in range(MAX_TUNNELS):
        coordinator.request(client, Coordinate(add_tunnel=f"w{number}"))
    assert client.over is None
    coordinator.request(client, Coordinate(add_tunnel="one-more"))
    assert ended(client)[2] == f"more than {MAX_TUNNELS} tunnels"


def test_an_agent_that_is_ready_for_the_whole_world_is_refused() -> None:
    pair = Pair().introduced()
    pair.ask(pair.agent, ready_for_handshake=["x"] * (MAX_TUNNELS + 1))
    assert ended(pair.agent)[2] == f"ready for {MAX_TUNNELS + 1} handshakes at once"


def test_everything_in_one_request_is_done_in_the_order_of_its_keys() -> None:
    coordinator = Coordinator()
    agent, _ = coordinator.open("ws", AGENT)
    client, _ = coordinator.open("c", ANYTHING)
    coordinator.request(
        client,
        Coordinate(
            update_self=CLIENT_NODE,
            add_tunnel="ws",
            remove_tunnel="ws",
            disconnect=Departure(cause="client.closed"),
        ),
    )
    assert [(one.kind, one.reason) for one in updates(agent)] == [
        (PeerWord.NODE, "add tunnel"),
        (PeerWord.DISCONNECTED, "remove tunnel"),
    ]
    assert client.over is not None and client.over.ending is StreamEnding.LEFT
