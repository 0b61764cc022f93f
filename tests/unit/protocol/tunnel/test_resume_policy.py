"""How long a detached tunnel waits: the table, row by row."""

from __future__ import annotations

import pytest

from tests.support.clock import EPOCH, at
from tether.attribution import evidence as ev
from tether.attribution.classify import classify
from tether.attribution.vocabulary import ConnectType, Party, StreamEnd, Vantage
from tether.protocol.tunnel.resume_policy import (
    ROWS,
    WaitRow,
    Waits,
    ends_with_its_link,
    not_resumed,
    row_of,
    wait_s,
)

DAY = 24 * 3600.0


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_can_be_reached(row: WaitRow) -> None:
    assert row_of(row.example, Party.CLIENT) is row


@pytest.mark.parametrize("how", StreamEnd)
@pytest.mark.parametrize("peer", [Party.CLIENT, Party.RELAY])
@pytest.mark.parametrize("vantage", [Vantage.AGENT, Vantage.RELAY])
def test_only_a_fin_that_we_saw_of_the_peers_own_stream_shows_that_it_ended(
    vantage: Vantage, peer: Party, how: StreamEnd
) -> None:
    fact = ev.StreamEnded(vantage=vantage, at=EPOCH, peer=peer, how=how)
    known = (vantage, peer, how) == (Vantage.AGENT, Party.CLIENT, StreamEnd.EOF)
    assert wait_s(fact, Party.CLIENT, Waits()) == (15.0 if known else DAY)


@pytest.mark.parametrize("how", StreamEnd)
def test_a_wait_for_a_stream_that_ended_at_once_is_over_when_the_server_knows_more(
    how: StreamEnd,
) -> None:
    fact = ev.StreamEnded(vantage=Vantage.RELAY, at=EPOCH, peer=Party.CLIENT, how=how)
    silent = how in (StreamEnd.SILENT, StreamEnd.TIMED_OUT, StreamEnd.UNREACHABLE)
    assert ends_with_its_link(fact, Party.CLIENT) is not silent
    assert not ends_with_its_link(fact, Party.AGENT)


@pytest.mark.parametrize(
    ("fact", "row"),
    [
        (
            ev.GoodbyeSaid(
                vantage=Vantage.RELAY, at=EPOCH, by=Party.RELAY, cause="server.shutdown"
            ),
            "relay-ended",
        ),
        (
            ev.ProtocolViolated(vantage=Vantage.AGENT, at=EPOCH, by=Party.RELAY, what="text"),
            "relay-ended",
        ),
        (
            ev.InternalFailure(vantage=Vantage.AGENT, at=EPOCH, party=Party.AGENT, what="x"),
            "silence",
        ),
    ],
)
def test_what_a_relay_says_is_no_word_of_the_peer(fact: ev.Evidence, row: str) -> None:
    assert row_of(fact, Party.CLIENT).name == row


def test_a_policy_may_be_shorter_than_the_wait_for_a_vanished_peer() -> None:
    fact = ev.StreamEnded(vantage=Vantage.AGENT, at=EPOCH, peer=Party.CLIENT, how=StreamEnd.EOF)
    assert wait_s(fact, Party.CLIENT, Waits(policy_s=5.0)) == 5.0


def ended(peer: Party, how: StreamEnd = StreamEnd.EOF) -> ev.StreamEnded:
    return ev.StreamEnded(vantage=Vantage.AGENT, at=EPOCH, peer=peer, how=how)


def test_after_a_relays_death_it_is_the_client_that_never_returned() -> None:
    fact = ended(Party.RELAY)
    never = ev.NeverReturned(
        vantage=Vantage.AGENT, at=EPOCH + 60.0, party=Party.CLIENT, waited_s=60.0
    )
    assert not_resumed(fact, Vantage.AGENT, 60.0, at(0)) == never
    assert not_resumed(fact, Vantage.CLIENT, 60.0, at(0)) == fact
    judged = classify(ConnectType.AGENT_TO_CLIENT, (never,)).disconnect
    assert judged.cause == "client.unreachable"


@pytest.mark.parametrize(
    "fact",
    [
        ended(Party.CLIENT),
        ended(Party.CLIENT, StreamEnd.SILENT),
        ended(Party.RELAY, StreamEnd.SILENT),
        ev.ProtocolViolated(vantage=Vantage.AGENT, at=EPOCH, by=Party.RELAY, what="x"),
        ev.GoodbyeSaid(vantage=Vantage.RELAY, at=EPOCH, by=Party.RELAY, cause="relay.shutdown"),
    ],
    ids=["client ended", "client silent", "relay silent", "relay meddled", "relay left"],
)
def test_any_other_end_says_itself_why_nobody_came(fact: ev.Evidence) -> None:
    assert not_resumed(fact, Vantage.AGENT, 60.0, at(0)) == fact
