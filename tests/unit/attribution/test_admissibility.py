"""Who may say what: a client is heard about itself and its own streams, and about nothing else."""

from __future__ import annotations

import pytest

from tether.attribution import evidence as ev
from tether.attribution.admissibility import client_may_say, is_hearsay, may_declare, tells_an_end
from tether.attribution.causes.catalogue import CATALOGUE
from tether.attribution.evidence import Evidence
from tether.attribution.examples.table import EXAMPLES
from tether.attribution.rules.table import RULES
from tether.attribution.vocabulary import AccessRefusal, Party, Policy, StreamEnd, Vantage

CLIENT = Vantage.CLIENT
COUNTERS = ev.TcpCounters(
    vantage=CLIENT,
    at=1.0,
    peer=Party.RELAY,
    retransmits=0,
    probes=0,
    unacked=0,
    total_retrans=0,
    last_data_recv_ms=0,
    last_ack_recv_ms=0,
    pmtu=0,
    rtt_us=0,
)


def goodbye(by: Party, cause: str) -> ev.GoodbyeSaid:
    return ev.GoodbyeSaid(vantage=CLIENT, at=1.0, by=by, cause=cause)


def signalled(party: Party) -> ev.SignalReceived:
    return ev.SignalReceived(vantage=CLIENT, at=1.0, party=party, signal=15)


def test_a_client_declares_only_what_is_the_clients() -> None:
    declared = {code for code in CATALOGUE if may_declare(Party.CLIENT, code)}
    assert declared == {code for code in CATALOGUE if code.startswith("client.")}


def test_a_relay_declares_only_what_is_the_relays_or_its_servers() -> None:
    declared = {code for code in CATALOGUE if may_declare(Party.RELAY, code)}
    assert declared == {code for code in CATALOGUE if code.startswith(("relay.", "server."))}


@pytest.mark.parametrize("party", [Party.AGENT, Party.SERVER])
def test_our_own_programs_declare_anything(party: Party) -> None:
    assert all(may_declare(party, code) for code in CATALOGUE)


@pytest.mark.parametrize("party", Party)
def test_everybody_may_leave_without_naming_a_cause(party: Party) -> None:
    assert may_declare(party, "")


@pytest.mark.parametrize(
    "fact",
    [
        ev.LocalSideClosed(vantage=CLIENT, at=1.0),
        ev.StreamEnded(vantage=CLIENT, at=1.0, peer=Party.RELAY, how=StreamEnd.EOF),
        COUNTERS,
        signalled(Party.CLIENT),
        goodbye(Party.CLIENT, "client.closed"),
        goodbye(Party.AGENT, "agent.shutdown"),
        ev.Suspended(vantage=CLIENT, at=1.0, party=Party.CLIENT, gap_s=90.0),
        ev.PreviousRunDied(vantage=CLIENT, at=1.0, party=Party.CLIENT, host_rebooted=True),
    ],
)
def test_a_client_can_have_seen(fact: Evidence) -> None:
    assert client_may_say(fact)


@pytest.mark.parametrize(
    "fact",
    [
        signalled(Party.AGENT),
        goodbye(Party.CLIENT, "workspace.stopped"),
        ev.Authenticated(vantage=CLIENT, at=1.0, user="alice", method="publickey"),
        ev.SshDisconnected(vantage=CLIENT, at=1.0, by=Party.CLIENT, code=11, open_sessions=0),
        ev.SessionEnded(vantage=CLIENT, at=1.0, exit_code=0, open_sessions=0),
        ev.ProtocolViolated(vantage=CLIENT, at=1.0, by=Party.AGENT, what="x"),
        ev.AccessRefused(vantage=CLIENT, at=1.0, why=AccessRefusal.UNKNOWN_KEY),
        ev.HandshakeTimedOut(vantage=CLIENT, at=1.0, by=Party.CLIENT, after_s=30.0),
        ev.PreviousRunDied(vantage=CLIENT, at=1.0, party=Party.AGENT, host_rebooted=False),
        ev.NeverReturned(vantage=CLIENT, at=1.0, party=Party.AGENT, waited_s=1.0),
        ev.Superseded(vantage=CLIENT, at=1.0, by_instance="x"),
        ev.InternalFailure(vantage=CLIENT, at=1.0, party=Party.AGENT, what="x"),
        ev.ReportMissing(vantage=CLIENT, at=1.0, party=Party.AGENT),
        ev.PolicyRefused(vantage=CLIENT, at=1.0, policy=Policy.BLOCK_FILE_TRANSFER),
        ev.IdeBackendGone(vantage=CLIENT, at=1.0, pid=1),
        ev.Suspended(vantage=CLIENT, at=1.0, party=Party.AGENT, gap_s=90.0),
        ev.IntentRecorded(
            vantage=CLIENT, at=1.0, intent="stop", cause="workspace.stopped", before_s=0.1
        ),
        ev.UnknownFact(vantage=CLIENT, at=1.0, original_kind="new", values=()),
    ],
)
def test_a_client_cannot_have_seen(fact: Evidence) -> None:
    assert not client_may_say(fact)


def test_hearsay_is_what_others_are_said_to_have_said() -> None:
    assert is_hearsay(goodbye(Party.AGENT, "agent.shutdown"))
    assert not is_hearsay(goodbye(Party.CLIENT, "client.closed"))
    assert not is_hearsay(COUNTERS)


def test_what_only_went_before_an_end_tells_none() -> None:
    assert not tells_an_end(COUNTERS)
    assert not tells_an_end(signalled(Party.CLIENT))
    assert tells_an_end(goodbye(Party.AGENT, "agent.shutdown"))


def test_every_rule_but_the_last_decides_on_a_case_that_tells_an_end() -> None:
    """A rule that reads a new kind of ending fact must have that kind listed in `standing`."""
    without = [
        rule.name
        for rule, case in zip(RULES, EXAMPLES, strict=True)
        if not any(tells_an_end(fact) for fact in case.facts)
    ]
    assert without == ["no-evidence"]
