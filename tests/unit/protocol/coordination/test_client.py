"""The dialling side of the control plane, against the real coordinator, in virtual time."""

from __future__ import annotations

import pytest

from tests.support.clock import at
from tests.support.protocol.coordination import KEY, LINK_LOST, Plane, Side, node, said
from tether.attribution import evidence as ev
from tether.attribution.causes.codes import COORDINATION_OVERWRITTEN, COORDINATION_REFUSED
from tether.attribution.classify import classify
from tether.attribution.vocabulary import ConnectType, Party, Vantage
from tether.protocol.coordination.client import (
    CLOSE_S,
    OPEN_S,
    CoordinationClient,
    CoordinationEnded,
    OpenFailed,
    Phase,
    SendOnStream,
    StreamOpened,
    Warned,
)
from tether.protocol.coordination.peers import (
    LOST_KEPT_S,
    KnownPeer,
    KnownPeers,
    PeerChanged,
)
from tether.protocol.coordination.resume_token import EXPIRES_S, REFRESH_S, mint, read
from tether.protocol.messages.control import Ping, Unsupported
from tether.protocol.messages.coordination import (
    Coordinate,
    CoordinateClosed,
    CoordinateError,
    CoordinateOpen,
    CoordinateOpened,
    Departure,
    PeerUpdate,
    PeerUpdates,
    PeerWord,
    ResumeTokenGrant,
    ResumeTokenRequest,
)

AGENT_LEAVES = said(Party.AGENT, "agent.shutdown", "signal:15")
CLIENT_LEAVES = said(Party.CLIENT, "client.closed")
BOTH = [Party.AGENT, Party.CLIENT]


def pair() -> tuple[Plane, Side, Side]:
    """An agent and a client that wants a tunnel to it, both on their links."""
    plane = Plane()
    agent, client = plane.agent(), plane.client()
    agent.machine.update_self(node("", "10.0.0.1:7000"))
    client.machine.update_self(node(""))
    client.machine.sync_destinations(["ws"])
    agent.connect(), client.connect()
    for one in (agent, client):
        one.sent.clear()
        one.did.clear()
    return plane, agent, client


def side(role: Party) -> Side:
    """One side whose stream is open."""
    plane = Plane()
    one = plane.agent() if role is Party.AGENT else plane.client()
    one.connect()
    assert one.took(StreamOpened) != []
    return one


def kinds(one: Side) -> list[tuple[str, str]]:
    return [(change.update.kind, change.update.id) for change in one.took(PeerChanged)]


# -- opening ---------------------------------------------------------------------------------


def test_a_stream_begins_with_where_we_are_and_then_the_tunnels() -> None:
    plane = Plane()
    client = plane.client()
    client.machine.update_self(node("", "h:1"))
    client.machine.sync_destinations(["a", "b"])
    client.connect()
    assert client.sent == [
        CoordinateOpen(),
        Coordinate(update_self=node("c", "h:1")),
        Coordinate(add_tunnel="a"),
        Coordinate(add_tunnel="b"),
        ResumeTokenRequest(request_id=1),
    ]
    assert client.did == [StreamOpened("c")]
    assert client.machine.peer_id == "c"


def test_agent_and_client_find_each_other_whoever_comes_first() -> None:
    _, agent, client = pair()
    assert client.machine.peers == {"ws": KnownPeer(node("ws", "10.0.0.1:7000"))}
    assert agent.machine.peers == {"c": KnownPeer(node("c"))}


def test_a_change_of_address_reaches_the_other_side_and_the_same_one_is_not_said_again() -> None:
    _, agent, client = pair()
    agent.perform(agent.machine.update_self(node("", "10.0.0.1:7000", as_of=50.0)))
    assert (agent.asked(), kinds(client)) == ([], [])
    agent.perform(agent.machine.update_self(node("", "10.9.9.9:7000", as_of=51.0)))
    assert kinds(client) == [(PeerWord.NODE, "ws")]
    assert client.machine.peers["ws"].node.endpoints == ["10.9.9.9:7000"]


def test_an_agent_says_once_that_it_is_ready_for_each_node_that_comes() -> None:
    _, agent, client = pair()
    client.perform(client.machine.update_self(node("", "c:1")))
    assert [one for one in agent.asked() if one.ready_for_handshake] == [
        Coordinate(ready_for_handshake=["c"])
    ]


def test_that_a_peer_is_ready_for_a_handshake_is_not_waited_for() -> None:
    plane, agent, client = pair()
    client.did.clear()
    known = dict(client.machine.peers)
    assert agent.stream is not None
    plane.coordinator.request(agent.stream, Coordinate(ready_for_handshake=["c"]))
    plane.settle()
    assert client.heard[-1] == PeerUpdates(
        updates=[PeerUpdate(id="ws", kind=PeerWord.READY_FOR_HANDSHAKE)]
    )
    assert (client.did, client.machine.peers) == ([], known)


def test_an_opening_that_is_rejected_is_no_end_and_is_backed_off_on_the_same_link() -> None:
    plane = Plane()
    one = plane.agent()
    one.rejected = CoordinateClosed(error="coordinator unhealthy", cause="server.shutdown")
    one.connect()
    plane.advance(4.0)
    waits = [failed.retry_in_s for failed in one.took(OpenFailed) if failed.error and failed.cause]
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2]
    assert one.took(CoordinationEnded) == []
    one.rejected = None
    plane.advance(10.0)
    assert one.took(StreamOpened) == [StreamOpened("ws")]


def test_a_rejection_is_waited_out_though_a_new_link_came_meanwhile() -> None:
    plane = Plane()
    one = plane.agent()
    one.rejected = CoordinateClosed(error="no", cause=COORDINATION_REFUSED, retry_after_s=30.0)
    one.connect()
    one.cut()
    one.rejected = None
    one.connect()
    assert one.took(StreamOpened) == []
    plane.advance(29.9)
    assert one.took(StreamOpened) == []
    plane.advance(0.1)
    assert one.took(StreamOpened) == [StreamOpened("ws")]


def test_a_rejection_that_was_waited_out_between_links_is_over() -> None:
    plane = Plane()
    one = plane.agent()
    one.rejected = CoordinateClosed(error="no", retry_after_s=30.0)
    one.connect()
    one.cut()
    one.rejected = None
    plane.advance(31.0)
    one.connect()
    assert one.took(StreamOpened) == [StreamOpened("ws")]


@pytest.mark.parametrize("role", BOTH)
def test_streams_that_end_at_once_are_backed_off_and_a_useful_one_resets_that(role: Party) -> None:
    one, waits = side(role), []
    for lived_s in (0.0, 0.0, 0.0, 11.0, 0.0, 0.0):
        one.plane.advance(lived_s)
        closed = CoordinateClosed(error="coordinator unhealthy", cause="server.shutdown")
        one.perform(one.machine.receive(closed, at(one.plane.now), 0.0))
        (ended,) = one.took(CoordinationEnded)
        waits.append(ended.retry_in_s)
        one.plane.advance(ended.retry_in_s or 0.0)
        assert one.took(StreamOpened) != []
    assert waits == [0.1, 0.2, 0.4, 0.1, 0.1, 0.2]


def test_a_link_without_an_answer_goes_without_coordination_and_the_next_one_asks_again() -> None:
    plane = Plane()
    one = plane.agent()
    one.rejected = Ping(n=1)  # anything but an answer
    one.connect()
    plane.advance(OPEN_S - 0.1)
    assert one.took(OpenFailed) == []
    plane.advance(0.1)
    assert one.took(OpenFailed) == [OpenFailed("the server did not answer in time")]
    plane.advance(3600.0)
    assert one.sent == [CoordinateOpen()]
    one.cut()
    one.rejected = None
    one.connect()
    assert one.took(StreamOpened) == [StreamOpened("ws")]


def test_a_server_without_coordination_is_left_in_peace() -> None:
    plane = Plane()
    one = plane.agent()
    one.rejected = Unsupported(message_type="coordinate_open")
    one.connect()
    plane.advance(3600.0)
    assert one.took(OpenFailed) == [OpenFailed("the server is of a version without coordination")]
    assert one.sent == [CoordinateOpen()]


def test_an_opening_that_its_link_did_not_outlive_is_no_rejection() -> None:
    plane = Plane()
    one = plane.agent()
    one.rejected = Ping(n=1)
    one.connect()
    one.cut()
    one.rejected = None
    one.connect()
    assert one.took(StreamOpened) == [StreamOpened("ws")]


def test_a_link_that_comes_up_twice_is_opened_once() -> None:
    one = side(Party.AGENT)
    assert one.machine.link_up(at(0)) == []


# -- destinations ----------------------------------------------------------------------------


def test_destinations_that_are_added_are_sent_and_sent_again_on_the_next_stream() -> None:
    plane, _, client = pair()
    client.perform(client.machine.sync_destinations(["ws", "ws2"]))
    assert client.asked() == [Coordinate(add_tunnel="ws2")]
    client.cut()
    client.connect()
    assert client.asked() == [
        Coordinate(update_self=node("c")),
        Coordinate(add_tunnel="ws"),
        Coordinate(add_tunnel="ws2"),
    ]
    assert plane.coordinator.tunnels_of("c") == ("ws", "ws2")


def test_a_destination_that_is_removed_is_forgotten_and_never_sent_again() -> None:
    plane, agent, client = pair()
    client.perform(client.machine.sync_destinations([]))
    assert client.asked() == [Coordinate(remove_tunnel="ws")]
    assert client.machine.peers == {}
    assert kinds(agent) == [(PeerWord.DISCONNECTED, "c")]
    client.cut()
    client.connect()
    assert client.asked() == [Coordinate(update_self=node("c"))]
    assert plane.coordinator.tunnels_of("c") == ()


def test_syncing_sends_only_the_difference_and_additions_first() -> None:
    _, _, client = pair()
    client.perform(client.machine.sync_destinations(["ws", "x"]))
    client.asked()
    client.perform(client.machine.sync_destinations(["y", "x"]))
    assert client.asked() == [Coordinate(add_tunnel="y"), Coordinate(remove_tunnel="ws")]
    assert client.machine.destinations == ("y", "x")
    client.perform(client.machine.sync_destinations(["y", "x"]))
    assert client.asked() == []


def test_what_is_wanted_while_the_link_is_away_is_not_sent_then_but_later() -> None:
    _, _, client = pair()
    client.cut()
    client.perform(client.machine.sync_destinations(["x"]))
    client.perform(client.machine.update_self(node("", "new:1")))
    assert client.asked() == []
    client.connect()
    assert client.asked() == [
        Coordinate(update_self=node("c", "new:1")),
        Coordinate(add_tunnel="x"),
    ]


def test_a_tunnel_that_may_not_be_opened_ends_the_stream_with_the_servers_words() -> None:
    plane = Plane()
    client = plane.client(may_reach=lambda peer_id: False)
    client.connect()
    client.perform(client.machine.sync_destinations(["theirs"]))
    (ended,) = client.took(CoordinationEnded)
    (fact,) = ended.facts
    what = "workspace agent not found or you do not have permission"
    assert fact == ev.GoodbyeSaid(
        vantage=Vantage.CLIENT,
        at=at(0).wall,
        by=Party.SERVER,
        cause=COORDINATION_REFUSED,
        detail=what,
    )
    assert (ended.by_link, ended.acknowledged, ended.retry_in_s) == (False, None, 0.1)


# -- ends: one each --------------------------------------------------------------------------


@pytest.mark.parametrize("role", BOTH)
def test_a_link_that_ends_takes_its_stream_along_with_its_own_facts(role: Party) -> None:
    one = side(role)
    one.plane.advance(20.0)
    one.cut()
    assert one.took(CoordinationEnded) == [CoordinationEnded(LINK_LOST, 20.0, by_link=True)]
    assert one.machine.phase is Phase.DIALING
    one.plane.advance(3600.0)
    assert one.did == []


def test_a_lost_link_loses_the_peers_and_keeps_them_and_says_no_disconnect() -> None:
    _, agent, client = pair()
    client.cut()
    assert kinds(client) == [(PeerWord.LOST, "ws")]
    assert client.machine.peers["ws"].is_lost
    assert [one for one in client.asked() if one.disconnect] == []
    assert kinds(agent) == [(PeerWord.LOST, "c")], "the other side keeps us, too"
    client.connect()
    assert kinds(client) == [(PeerWord.NODE, "ws")]
    assert not client.machine.peers["ws"].is_lost


def test_a_lost_peer_is_forgotten_after_fifteen_minutes() -> None:
    plane, _, client = pair()
    client.cut()
    client.did.clear()
    plane.advance(LOST_KEPT_S - 1)
    assert "ws" in client.machine.peers
    plane.advance(1)
    assert client.took(PeerChanged) == [
        PeerChanged(PeerUpdate(id="ws", kind=PeerWord.DISCONNECTED, reason="lost for too long"))
    ]
    assert client.machine.peers == {}


def test_a_peer_that_left_is_forgotten_at_once_with_its_cause() -> None:
    _, agent, client = pair()
    agent.perform(agent.machine.leave(AGENT_LEAVES, at(0)))
    (change,) = client.took(PeerChanged)
    assert change.update == PeerUpdate(
        id="ws",
        kind=PeerWord.DISCONNECTED,
        reason="graceful disconnect",
        cause="agent.shutdown",
        actor="signal:15",
    )
    assert client.machine.peers == {}


@pytest.mark.parametrize("role", BOTH)
def test_leaving_is_announced_with_its_cause_and_ends_once_when_it_is_acknowledged(
    role: Party,
) -> None:
    one = side(role)
    leaving = AGENT_LEAVES if role is Party.AGENT else CLIENT_LEAVES
    one.sent.clear()
    one.perform(one.machine.leave(leaving, at(0)))
    assert one.asked() == [
        Coordinate(disconnect=Departure(cause=leaving.cause, actor=leaving.actor))
    ]
    assert one.took(CoordinationEnded) == [CoordinationEnded((leaving,), 0.0, acknowledged=True)]
    assert one.machine.is_over
    one.cut()
    one.plane.advance(3600.0)
    assert (one.did, one.machine.deadline()) == ([], None)


@pytest.mark.parametrize("role", BOTH)
def test_leaving_waits_for_its_deadline_and_not_longer(role: Party) -> None:
    one = side(role)
    one.stream = None  # the coordinator hears nothing any more
    leaving = AGENT_LEAVES if role is Party.AGENT else CLIENT_LEAVES
    one.perform(one.machine.leave(leaving, at(0)))
    assert one.machine.leave(leaving, at(0)) == []
    one.plane.advance(CLOSE_S - 0.1)
    assert one.took(CoordinationEnded) == []
    one.plane.advance(0.1)
    (ended,) = one.took(CoordinationEnded)
    assert ended == CoordinationEnded((leaving,), CLOSE_S, acknowledged=False)
    judged = classify(ConnectType.SERVER_TO_AGENT, ended.facts).disconnect
    assert judged.cause == leaving.cause, "nobody's silence overwrites why we left"
    assert one.machine.is_over


def test_a_link_that_ends_while_we_leave_leaves_our_cause_the_first() -> None:
    one = side(Party.AGENT)
    one.stream = None
    one.perform(one.machine.leave(AGENT_LEAVES, at(0)))
    one.cut()
    assert one.took(CoordinationEnded) == [
        CoordinationEnded((AGENT_LEAVES,), 0.0, acknowledged=False)
    ]
    assert one.machine.is_over


def test_leaving_without_a_stream_is_done_at_once_and_is_no_end() -> None:
    plane = Plane()
    never, opening = plane.agent(), plane.agent("ws2")
    opening.rejected = Ping(n=1)
    opening.connect()
    for one in (never, opening):
        assert one.machine.leave(AGENT_LEAVES, at(0)) == []
        assert one.machine.is_over
        assert one.took(CoordinationEnded) == []
    assert never.machine.link_up(at(0)) == []
    late = CoordinateClosed(cause="server.shutdown")
    assert opening.machine.receive(late, at(0), 0.0) == []
    assert opening.machine.receive(CoordinateOpened(peer_id="ws2"), at(0), 0.0) == []


def test_a_coordinator_that_closes_is_the_cause_and_is_opened_again_on_the_same_link() -> None:
    plane, agent, _ = pair()
    plane.coordinator.close("server.database_unavailable", error="coordinator unhealthy")
    plane.settle()
    (ended,) = agent.took(CoordinationEnded)
    assert ended.facts == (
        ev.GoodbyeSaid(
            vantage=Vantage.AGENT,
            at=at(0).wall,
            by=Party.SERVER,
            cause="server.database_unavailable",
            detail="coordinator unhealthy",
        ),
    )
    assert kinds(agent) == [(PeerWord.LOST, "c")]
    plane.coordinator.reopen()
    plane.advance(1.0)
    assert agent.took(StreamOpened) == [StreamOpened("ws")]
    assert agent.took(CoordinationEnded) == []


def test_an_agent_that_connects_twice_ends_the_older_stream_and_the_newer_gets_the_nodes() -> None:
    plane, agent, _ = pair()
    second = plane.agent().connect()
    (ended,) = agent.took(CoordinationEnded)
    (fact,) = ended.facts
    assert isinstance(fact, ev.GoodbyeSaid)
    assert (fact.cause, fact.detail) == (
        COORDINATION_OVERWRITTEN,
        "peer ID overwritten by new connection",
    )
    assert kinds(second) == [(PeerWord.NODE, "c")]


def test_a_close_without_a_cause_is_an_unknown_one() -> None:
    one = side(Party.AGENT)
    one.perform(one.machine.receive(CoordinateClosed(error="?"), at(0), 0.0))
    (ended,) = one.took(CoordinationEnded)
    (fact,) = ended.facts
    assert isinstance(fact, ev.GoodbyeSaid)
    assert (fact.cause, fact.detail) == ("unknown", "?")


def test_an_error_in_band_is_a_warning_and_the_stream_is_kept() -> None:
    one = side(Party.AGENT)
    one.perform([SendOnStream(Coordinate(ready_for_handshake=["stranger"]))])
    assert one.did == [
        Warned('ready for handshake error: you do not share a tunnel with "stranger"')
    ]
    assert one.machine.phase is Phase.COORDINATING


def test_what_is_late_of_an_older_stream_is_dropped() -> None:
    one = side(Party.CLIENT)
    one.cut()
    one.did.clear()
    for late in (
        PeerUpdates(updates=[PeerUpdate(id="ws", kind=PeerWord.NODE, node=node("ws"))]),
        CoordinateError(error="late"),
        CoordinateOpened(peer_id="late"),
        CoordinateClosed(cause="late"),
        ResumeTokenGrant(request_id=1, token="late", expires_in_s=9.0, refresh_in_s=9.0),
        Unsupported(message_type="coordinate_open"),
    ):
        assert one.machine.receive(late, at(0), 0.0) == []
    assert (one.machine.phase, one.machine.peers) == (Phase.DIALING, {})


def test_a_controller_knows_its_messages() -> None:
    ours = [
        CoordinateOpened(peer_id="x"),
        CoordinateClosed(),
        Unsupported(message_type="coordinate_open"),
        Unsupported(message_type="resume_token_request"),
    ]
    others = [Ping(n=1), Unsupported(message_type="report")]
    assert [CoordinationClient.is_ours(one) for one in ours] == [True] * 4
    assert [CoordinationClient.is_ours(one) for one in others] == [False] * 2


# -- the resume token ------------------------------------------------------------------------


def test_a_peer_that_comes_back_keeps_its_id() -> None:
    _, agent, client = pair()
    client.come_back_as("somebody-else")
    client.cut()
    agent.did.clear()
    client.connect()
    assert client.machine.peer_id == "c"
    assert kinds(agent) == [(PeerWord.NODE, "c")]


def test_a_token_is_refreshed_at_half_its_life() -> None:
    plane, _, client = pair()
    plane.advance(REFRESH_S - 1)
    assert client.sent == []
    plane.advance(1)
    assert client.sent == [ResumeTokenRequest(request_id=2)]
    plane.advance(REFRESH_S)
    assert client.sent[1:] == [ResumeTokenRequest(request_id=3)]


def test_an_expired_token_is_not_offered() -> None:
    plane, _, client = pair()
    client.cut()
    plane.advance(EXPIRES_S)
    client.come_back_as("new")
    client.connect()
    assert client.sent[0] == CoordinateOpen()
    assert client.machine.peer_id == "new"


def test_of_two_refreshers_the_newest_wins() -> None:
    plane, _, client = pair()
    plane.advance(REFRESH_S)  # the second request
    old = ResumeTokenGrant(request_id=1, token="old", expires_in_s=1e6, refresh_in_s=1e6)
    assert client.machine.receive(old, at(plane.now), 0.0) == []
    client.cut()
    client.connect()
    opened = client.sent[-4]
    assert isinstance(opened, CoordinateOpen)
    assert opened.resume_token not in ("", "old")


def test_two_programs_with_one_id_do_not_chase_each_other() -> None:
    plane, _, client = pair()
    client.come_back_as("another")
    plane.client("c").connect()
    plane.advance(1.0)
    assert client.took(StreamOpened) == [StreamOpened("another")]
    assert len(client.took(CoordinationEnded)) == 1


def test_a_server_without_tokens_is_asked_once_a_stream() -> None:
    plane = Plane()
    client = plane.client()
    client.knows_tokens = False
    client.connect()
    plane.advance(2 * EXPIRES_S)
    client.cut()
    client.connect()
    assert client.sent == [
        CoordinateOpen(),
        ResumeTokenRequest(request_id=1),
        CoordinateOpen(),
        ResumeTokenRequest(request_id=2),
    ]
    assert client.took(CoordinationEnded) != []


def test_a_token_is_good_for_its_holder_only_and_for_a_day() -> None:
    token = mint(KEY, peer_id="c", holder="user:alice", wall=0.0)

    def good(token: str, key: bytes = KEY, holder: str = "user:alice", wall: float = 0.0) -> str:
        return read(key, token, holder=holder, wall=wall)

    assert good(token) == good(token, wall=EXPIRES_S - 1) == "c"
    assert good(token, key=b"other") == good(token, holder="user:bob") == ""
    assert good(token, wall=EXPIRES_S) == ""
    forged = ("", "x", "\N{SNOWMAN}", "x" * 2000, token[:-4], token[4:])
    assert {good(bad) for bad in forged} == {""}


# -- bounds ----------------------------------------------------------------------------------


def test_the_peers_that_are_kept_are_bounded() -> None:
    peers = KnownPeers(capacity=1)
    first = PeerUpdate(id="a", kind=PeerWord.NODE, node=node("a"))
    second = PeerUpdate(id="b", kind=PeerWord.NODE, node=node("b"))
    assert peers.receive(first, at(0)) == [PeerChanged(first)]
    assert peers.receive(second, at(0)) == []
    assert list(peers.all) == ["a"]


def test_words_of_a_newer_server_are_ignored() -> None:
    one = side(Party.CLIENT)
    strange = PeerUpdates(updates=[PeerUpdate(id="ws", kind="teleported")])
    assert one.machine.receive(strange, at(0), 0.0) == []


def test_a_wait_that_ends_without_a_link_leaves_no_deadline() -> None:
    plane = Plane()
    one = plane.agent()
    one.rejected = CoordinateClosed(error="no", retry_after_s=5.0)
    one.connect()
    one.cut()
    plane.advance(6.0)  # the wait ends while there is no link
    assert one.machine.deadline() is None
