"""One end of a link: every way to close, from both ends and in both orders, without a loop."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, strategies as st

from tests.support.clock import EPOCH, at
from tether.attribution import evidence as ev
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import Party, StreamEnd, Vantage
from tether.protocol.link.link import (
    LINGER_S,
    CloseStream,
    Command,
    DeliverMessage,
    Link,
    LinkEnded,
    LinkState,
    SendMessage,
)
from tether.protocol.messages.base import FactRecord, Message, Unrecognized, facts_of, records_of
from tether.protocol.messages.control import Goodbye, GoodbyeAck, Ping, Pong, Unsupported
from tether.protocol.messages.tunnel import HalfClose

OVER: list[Command] = [CloseStream(1000, "goodbye"), LinkEnded()]
GONE = ev.StreamEnded(vantage=Vantage.AGENT, at=9.0, peer=Party.SERVER, how=StreamEnd.RESET)


def agent_end(**options: Any) -> Link:
    return Link(me=Party.AGENT, peer=Party.SERVER, now=at(0), **options)


def server_end(**options: Any) -> Link:
    return Link(me=Party.SERVER, peer=Party.AGENT, now=at(0), **options)


def said(link: Link, when: float, by: Party, cause: str, **more: str) -> ev.GoodbyeSaid:
    return ev.GoodbyeSaid(
        vantage=Vantage(str(link.me)), at=EPOCH + when, by=by, cause=cause, **more
    )


# -- while it is open -------------------------------------------------------------------


def test_a_new_link_is_open_and_knows_nothing() -> None:
    link = agent_end()
    assert (link.state, link.cell.facts, link.rtt_s) == (LinkState.OPEN, (), None)


def test_a_ping_is_answered() -> None:
    assert agent_end().receive(Ping(n=7), at(1)) == [SendMessage(Pong(n=7))]


def test_a_pong_measures_the_round_trip() -> None:
    link = agent_end(ping_every=15.0)
    assert link.tick(at(15)) == [SendMessage(Ping(n=1))]
    assert link.receive(Pong(n=1), at(15.25)) == []
    assert link.rtt_s == 0.25


def test_a_stale_pong_measures_nothing() -> None:
    link = agent_end(ping_every=15.0)
    link.tick(at(15))
    link.tick(at(30))
    link.receive(Pong(n=1), at(31))
    assert link.rtt_s is None


def test_other_messages_are_delivered() -> None:
    assert agent_end().receive(HalfClose(), at(1)) == [DeliverMessage(HalfClose())]


def test_a_type_of_a_newer_peer_is_answered_and_delivered() -> None:
    alien = Unrecognized(message_type="teleport")
    assert agent_end().receive(alien, at(1)) == [
        SendMessage(Unsupported(message_type="teleport")),
        DeliverMessage(alien),
    ]


def test_an_acknowledgement_of_nothing_is_ignored() -> None:
    link = agent_end()
    assert link.receive(GoodbyeAck(), at(1)) == []
    assert link.state is LinkState.OPEN


# -- time -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "deadline"),
    [
        ({}, None),
        ({"ping_every": 15.0}, 15.0),
        ({"patience": 45.0}, 45.0),
        ({"ping_every": 15.0, "patience": 45.0}, 15.0),
        ({"ping_every": 60.0, "patience": 45.0}, 45.0),
    ],
)
def test_the_deadline_is_the_nearest_of_ping_and_patience(
    options: dict[str, float], deadline: float | None
) -> None:
    assert agent_end(**options).deadline() == deadline


def test_a_ping_that_was_asked_for_has_its_answer_delivered_and_timed_once() -> None:
    link = agent_end(ping_every=15.0)
    assert link.ping(at(2)) == [SendMessage(Ping(n=1))]
    assert link.receive(Pong(n=0), at(2.1)) == []
    assert link.receive(Pong(n=1), at(2.5)) == [DeliverMessage(Pong(n=1))]
    assert link.rtt_s == 0.5
    assert link.receive(Pong(n=1), at(2.6)) == []
    assert link.deadline() == 17.0


def test_a_link_that_is_ending_is_not_asked() -> None:
    link = agent_end()
    link.leave("agent.shutdown", at(1))
    assert link.ping(at(2)) == []


def test_pings_follow_one_another() -> None:
    link = agent_end(ping_every=15.0)
    assert [link.tick(at(t)) for t in (14, 15, 16, 30)] == [
        [],
        [SendMessage(Ping(n=1))],
        [],
        [SendMessage(Ping(n=2))],
    ]


def test_a_silent_peer_is_given_up_after_our_patience() -> None:
    link = agent_end(ping_every=15.0, patience=45.0)
    link.receive(HalfClose(), at(10))
    assert link.tick(at(54.9)) == [SendMessage(Ping(n=1))]
    assert not link.patience_over(at(54.9))
    assert link.patience_over(at(55))
    assert link.tick(at(55)) == [CloseStream(4408, "silent for too long"), LinkEnded()]
    assert link.cell.facts == (
        ev.StreamEnded(
            vantage=Vantage.AGENT,
            at=EPOCH + 55,
            peer=Party.SERVER,
            how=StreamEnd.SILENT,
            silence_s=45.0,
        ),
    )
    assert (link.state, link.deadline(), link.tick(at(56))) == (LinkState.CLOSED, None, [])


@given(st.floats(0, 1e7), st.floats(0.1, 1e4))
@example(45.1, 45.0)  # 90.1 - 45.1 is less than 45
def test_at_its_deadline_a_link_does_what_is_due(heard_at: float, patience: float) -> None:
    link = Link(
        me=Party.AGENT, peer=Party.SERVER, now=at(heard_at), ping_every=None, patience=patience
    )
    due = link.deadline()
    assert due is not None
    assert link.tick(at(due))[-1] == LinkEnded()
    assert link.deadline() is None


def test_a_peer_that_is_only_late_is_borne_with_for_three_patiences_at_most() -> None:
    link = agent_end(patience=45.0)
    assert link.patience_over(at(45))
    assert link.extend_patience(at(45))
    assert not link.patience_over(at(45.9))
    assert (link.deadline(), link.tick(at(45.9))) == (46.0, [])
    assert link.patience_over(at(46))
    assert link.extend_patience(at(134.9))
    assert not link.extend_patience(at(135))
    assert link.patience_over(at(135.9))
    assert link.tick(at(135.9)) == [CloseStream(4408, "silent for too long"), LinkEnded()]


def test_a_link_without_patience_bears_nothing() -> None:
    assert not agent_end().extend_patience(at(1))


def test_tunnel_data_proves_that_the_peer_lives() -> None:
    link = agent_end(patience=45.0)
    link.heard(at(40))
    assert link.deadline() == 85.0
    assert link.tick(at(45)) == []


def test_the_peers_wishes_for_keepalive_are_adopted() -> None:
    link = agent_end()
    link.set_liveness(ping_every=0.5, patience=2.0, now=at(1))
    assert link.deadline() == 1.5
    assert link.tick(at(1.5)) == [SendMessage(Ping(n=1))]
    assert link.patience_over(at(2.0))


def test_without_patience_silence_is_no_end() -> None:
    link = agent_end(ping_every=15.0)
    assert not link.patience_over(at(1e9))


# -- we leave first ---------------------------------------------------------------------


def test_leaving_says_goodbye_and_lingers() -> None:
    link = agent_end(ping_every=15.0, patience=45.0)
    assert link.leave(
        "agent.shutdown", at(5), actor="signal:15", detail="for lunch", retry_after_s=2.0
    ) == [
        SendMessage(
            Goodbye(
                cause="agent.shutdown", actor="signal:15", detail="for lunch", retry_after_s=2.0
            )
        )
    ]
    assert (link.state, link.deadline()) == (LinkState.LEAVING, 5 + LINGER_S)
    assert link.cell.facts == (
        said(link, 5, Party.AGENT, "agent.shutdown", actor="signal:15", detail="for lunch"),
    )


def test_an_acknowledged_goodbye_ends_the_link() -> None:
    link = agent_end()
    link.leave("agent.shutdown", at(5))
    assert link.receive(GoodbyeAck(), at(5.1)) == OVER
    assert link.cell.facts == (said(link, 5, Party.AGENT, "agent.shutdown"),)
    assert link.cell.symptoms == ()


def test_a_goodbye_into_a_dead_cable_ends_after_the_linger_not_the_keepalive() -> None:
    link = agent_end(ping_every=15.0, patience=45.0, linger=2.0)
    link.leave("agent.shutdown", at(5))
    assert link.tick(at(6.9)) == []
    assert not link.patience_over(at(100))
    assert link.tick(at(7)) == OVER
    assert link.cell.symptoms == ()


def test_a_stream_that_stops_after_our_goodbye_is_a_symptom() -> None:
    link = agent_end()
    link.leave("agent.shutdown", at(5))
    assert link.cut(GONE) == OVER
    assert link.cell.facts == (said(link, 5, Party.AGENT, "agent.shutdown"),)
    assert link.cell.symptoms == (GONE,)


def test_a_second_reason_to_leave_is_a_symptom_and_says_nothing() -> None:
    link = agent_end()
    link.leave("agent.shutdown", at(5))
    assert link.leave("agent.internal_error", at(6)) == []
    assert link.cell.symptoms == (said(link, 6, Party.AGENT, "agent.internal_error"),)
    assert link.deadline() == 5 + LINGER_S


def test_while_leaving_pings_are_not_answered_but_messages_are_still_delivered() -> None:
    link = agent_end()
    link.leave("agent.shutdown", at(5))
    assert link.receive(Ping(n=1), at(5.1)) == []
    assert link.receive(HalfClose(), at(5.2)) == [DeliverMessage(HalfClose())]


def test_leaving_with_a_fact_alone_tells_the_fact() -> None:
    link = Link(me=Party.CLIENT, peer=Party.AGENT, now=at(0))
    theirs = ev.Authenticated(vantage=Vantage.AGENT, at=1.0, user="alice", method="publickey")
    signal = ev.SignalReceived(vantage=Vantage.CLIENT, at=1.5, party=Party.CLIENT, signal=15)
    closed = ev.LocalSideClosed(vantage=Vantage.CLIENT, at=2.0, signal=15)
    link.cell.note(theirs)
    link.cell.note(signal)
    assert link.leave("", at(2), because=closed) == [
        SendMessage(Goodbye(facts=records_of((signal, closed)))),
    ]
    assert link.cell.facts == (theirs, signal, closed)


def test_a_peer_that_breaks_the_protocol_is_told_and_left() -> None:
    link = server_end()
    assert link.violated("a text message", at(3)) == [
        SendMessage(
            Goodbye(
                cause="agent.protocol_error",
                detail="a text message",
                facts=[
                    FactRecord(
                        kind="protocol_violated",
                        vantage="server",
                        at=EPOCH + 3,
                        values={"by": "agent", "what": "a text message"},
                    )
                ],
            )
        )
    ]
    assert link.cell.facts == (
        ev.ProtocolViolated(
            vantage=Vantage.SERVER, at=EPOCH + 3, by=Party.AGENT, what="a text message"
        ),
    )
    assert link.state is LinkState.LEAVING


# -- they leave first -------------------------------------------------------------------


def test_a_peers_goodbye_is_acknowledged_delivered_and_lingered_for() -> None:
    link = agent_end(ping_every=15.0, patience=45.0)
    goodbye = Goodbye(cause="server.shutdown", actor="signal:15", detail="upgrade")
    assert link.receive(goodbye, at(5)) == [SendMessage(GoodbyeAck()), DeliverMessage(goodbye)]
    assert (link.state, link.deadline()) == (LinkState.LEFT, 5 + LINGER_S)
    assert link.cell.facts == (
        said(link, 5, Party.SERVER, "server.shutdown", actor="signal:15", detail="upgrade"),
    )


@pytest.mark.parametrize("how", ["they close", "they do not"])
def test_the_one_who_left_closes_first_or_the_linger_does(how: str) -> None:
    link = agent_end()
    link.receive(Goodbye(cause="server.shutdown"), at(5))
    closes = link.cut(GONE) if how == "they close" else link.tick(at(5 + LINGER_S))
    assert closes == OVER
    assert link.cell.facts == (said(link, 5, Party.SERVER, "server.shutdown"),)
    assert link.cell.symptoms == ((GONE,) if how == "they close" else ())


def test_being_left_we_say_no_goodbye_of_our_own() -> None:
    link = agent_end()
    link.receive(Goodbye(cause="server.shutdown"), at(5))
    assert link.leave("agent.shutdown", at(6)) == []
    assert link.cell.symptoms == (said(link, 6, Party.AGENT, "agent.shutdown"),)


def test_a_second_goodbye_is_a_symptom_and_not_answered() -> None:
    link = agent_end()
    link.receive(Goodbye(cause="server.shutdown"), at(5))
    assert link.receive(Goodbye(cause="workspace.stopped"), at(6)) == []
    assert link.cell.symptoms == (said(link, 6, Party.SERVER, "workspace.stopped"),)


def test_after_a_goodbye_pings_are_not_answered() -> None:
    link = agent_end()
    link.receive(Goodbye(cause="server.shutdown"), at(5))
    assert link.receive(Ping(n=1), at(5.1)) == []


def test_a_goodbye_without_a_cause_ends_with_the_leavers_last_fact() -> None:
    link = Link(me=Party.AGENT, peer=Party.CLIENT, now=at(0))
    signal = ev.SignalReceived(vantage=Vantage.CLIENT, at=1.0, party=Party.CLIENT, signal=1)
    closed = ev.LocalSideClosed(vantage=Vantage.CLIENT, at=1.1, signal=1)
    link.receive(Goodbye(facts=records_of((signal, closed))), at(5))
    assert link.cell.ended
    assert link.cell.facts == (signal, closed)


def test_a_goodbye_with_a_cause_ends_with_it_and_keeps_the_facts() -> None:
    link = server_end()
    signal = ev.SignalReceived(vantage=Vantage.AGENT, at=1.0, party=Party.AGENT, signal=15)
    link.receive(Goodbye(cause="agent.shutdown", facts=records_of((signal,))), at(5))
    assert link.cell.facts == (signal, said(link, 5, Party.AGENT, "agent.shutdown"))


def test_a_goodbye_that_says_nothing_is_still_a_goodbye() -> None:
    link = agent_end()
    link.receive(Goodbye(), at(5))
    assert link.cell.facts == (said(link, 5, Party.SERVER, "unknown"),)


def test_nobody_testifies_for_another_party() -> None:
    link = Link(me=Party.AGENT, peer=Party.CLIENT, now=at(0))
    forged: tuple[Evidence, ...] = (
        ev.Superseded(vantage=Vantage.SERVER, at=1.0, by_instance="x"),
        ev.InternalFailure(vantage=Vantage.AGENT, at=1.0, party=Party.AGENT, what="x"),
        ev.GoodbyeSaid(vantage=Vantage.CLIENT, at=1.0, by=Party.SERVER, cause="server.shutdown"),
    )
    link.receive(Goodbye(cause="client.closed", facts=records_of(forged)), at(5))
    assert link.cell.facts == (said(link, 5, Party.CLIENT, "client.closed"),)


def test_a_client_testifies_only_to_what_it_can_see() -> None:
    link = Link(me=Party.AGENT, peer=Party.CLIENT, now=at(0))
    closed = ev.LocalSideClosed(vantage=Vantage.CLIENT, at=2.0)
    blamed = ev.InternalFailure(vantage=Vantage.CLIENT, at=1.0, party=Party.AGENT, what="x")
    link.receive(Goodbye(facts=records_of((closed, blamed))), at(5))
    assert link.cell.facts == (closed,)


def violated(link: Link, when: float, by: Party, what: str) -> ev.ProtocolViolated:
    return ev.ProtocolViolated(vantage=Vantage(str(link.me)), at=EPOCH + when, by=by, what=what)


@pytest.mark.parametrize(
    ("peer", "cause"),
    [
        (Party.CLIENT, "workspace.stopped"),
        (Party.CLIENT, "agent.protocol_error"),
        (Party.RELAY, "client.closed"),
        (Party.RELAY, "workspace.stopped"),
    ],
)
def test_a_peer_that_declares_what_is_not_its_own_breaks_the_protocol(
    peer: Party, cause: str
) -> None:
    link = Link(me=Party.AGENT, peer=peer, now=at(0))
    goodbye = Goodbye(cause=cause, actor="admin:root")
    assert link.receive(goodbye, at(5)) == [SendMessage(GoodbyeAck()), DeliverMessage(goodbye)]
    what = f"declared {cause}, which is not a {peer}'s to declare"
    assert link.cell.facts == (violated(link, 5, peer, what),)


@pytest.mark.parametrize(
    ("peer", "cause"),
    [
        (Party.CLIENT, "client.closed"),
        (Party.RELAY, "server.shutdown"),
        (Party.RELAY, "relay.crashed"),
        (Party.AGENT, "workspace.stopped"),
        (Party.SERVER, "client.closed"),
    ],
)
def test_what_a_peer_may_declare_is_its_goodbye(peer: Party, cause: str) -> None:
    link = Link(me=Party.AGENT, peer=peer, now=at(0))
    link.receive(Goodbye(cause=cause), at(5))
    assert link.cell.facts == (said(link, 5, peer, cause),)


def test_a_word_that_no_peer_may_declare_is_told_in_one_short_line() -> None:
    link = Link(me=Party.SERVER, peer=Party.CLIENT, now=at(0))
    link.receive(Goodbye(cause="\x1b[2J" + "x" * 200), at(5))
    what = f"declared �[2J{'x' * 60}, which is not a client's to declare"
    assert link.cell.facts == (violated(link, 5, Party.CLIENT, what),)


def test_a_client_tells_its_peers_fault_without_declaring_it() -> None:
    client, agent = (
        Link(me=Party.CLIENT, peer=Party.AGENT, now=at(0)),
        Link(me=Party.AGENT, peer=Party.CLIENT, now=at(0)),
    )
    (sent,) = client.violated("no such frame", at(5))
    assert client.cell.facts == (violated(client, 5, Party.AGENT, "no such frame"),)
    assert isinstance(sent, SendMessage)
    agent.receive(sent.message, at(6))
    assert agent.cell.facts == (said(agent, 6, Party.CLIENT, "unknown", detail="no such frame"),)


def test_what_is_no_fact_is_left_out_and_what_is_new_is_kept() -> None:
    new = FactRecord(kind="quantum_flip", vantage="client", at=1.0, values={"qubits": 3})
    assert facts_of([FactRecord(kind="superseded", vantage="moon", at=1.0), new]) == [
        ev.UnknownFact(
            vantage=Vantage.CLIENT, at=1.0, original_kind="quantum_flip", values=(("qubits", 3),)
        )
    ]


# -- both at once, and nobody -----------------------------------------------------------


def test_goodbyes_that_cross_are_each_others_acknowledgement() -> None:
    agent, server = agent_end(), server_end()
    agent.leave("agent.shutdown", at(5))
    server.leave("server.shutdown", at(5))
    assert agent.receive(Goodbye(cause="server.shutdown"), at(5.1)) == [
        SendMessage(GoodbyeAck()),
        *OVER,
    ]
    assert server.receive(Goodbye(cause="agent.shutdown"), at(5.1)) == [
        SendMessage(GoodbyeAck()),
        *OVER,
    ]
    assert agent.cell.facts == (said(agent, 5, Party.AGENT, "agent.shutdown"),)
    assert agent.cell.symptoms == (said(agent, 5.1, Party.SERVER, "server.shutdown"),)
    assert server.cell.facts == (said(server, 5, Party.SERVER, "server.shutdown"),)
    assert server.cell.symptoms == (said(server, 5.1, Party.AGENT, "agent.shutdown"),)


def test_a_stream_that_stops_by_itself_is_the_cause_with_its_counters_before_it() -> None:
    link = agent_end()
    counters = ev.TcpCounters(
        vantage=Vantage.AGENT,
        at=9.0,
        peer=Party.SERVER,
        retransmits=0,
        probes=0,
        unacked=0,
        total_retrans=0,
        last_data_recv_ms=1,
        last_ack_recv_ms=1,
        pmtu=1500,
        rtt_us=1,
    )
    assert link.cut(GONE, counters) == OVER
    assert link.cell.facts == (counters, GONE)


def both_ends(link: Link, message: Message) -> list[Command]:
    return [*link.receive(message, at(20)), *link.tick(at(20)), *link.cut(GONE)]


@pytest.mark.parametrize("message", [Ping(n=1), GoodbyeAck(), Goodbye(cause="server.shutdown")])
def test_a_closed_link_is_deaf_and_ends_no_second_time(message: Message) -> None:
    link = agent_end()
    link.cut(GONE)
    assert both_ends(link, message) == []
    assert (link.cell.facts, link.cell.symptoms) == ((GONE,), ())


def test_a_late_reason_for_a_closed_link_is_a_symptom() -> None:
    link = agent_end()
    link.cut(GONE)
    assert link.leave("agent.shutdown", at(20)) == []
    assert link.cell.symptoms == (said(link, 20, Party.AGENT, "agent.shutdown"),)


def test_a_goodbye_is_unheard_until_the_peer_answers() -> None:
    link = agent_end()
    heard = [link.goodbye_unheard]
    link.leave("agent.shutdown", at(1))
    heard.append(link.goodbye_unheard)
    link.receive(GoodbyeAck(), at(2))
    heard.append(link.goodbye_unheard)
    assert heard == [False, True, False]


def test_a_goodbye_that_crosses_the_peers_is_heard_and_one_into_a_dead_cable_is_not() -> None:
    crossing, dark = agent_end(), agent_end()
    for link in (crossing, dark):
        link.leave("agent.shutdown", at(1))
    crossing.receive(Goodbye(cause="server.shutdown"), at(2))
    dark.tick(at(1 + dark.linger))
    assert (crossing.goodbye_unheard, dark.goodbye_unheard) == (False, True)
    assert {crossing.state, dark.state} == {LinkState.CLOSED}
