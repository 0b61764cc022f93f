"""Who may say what: every party is heard about itself and its own streams, and about nothing else."""

from __future__ import annotations

import pytest

from tether.attribution import evidence as ev
from tether.attribution.causes.catalogue import CATALOGUE
from tether.attribution.evidence import Evidence
from tether.attribution.examples.table import EXAMPLES
from tether.attribution.rules.table import RULES
from tether.attribution.standing import (
    CLOCK_ERROR_S,
    STANDING,
    Lifetime,
    can_know,
    doer_of,
    has_standing,
    is_heard,
    may_say,
    tells_an_end,
)
from tether.attribution.vocabulary import AccessRefusal, Party, Policy, StreamEnd, Vantage

AGENT, CLIENT, RELAY, SERVER = Vantage.AGENT, Vantage.CLIENT, Vantage.RELAY, Vantage.SERVER
OTHERS = (AGENT, CLIENT, RELAY)


def goodbye(witness: Vantage, by: Party, cause: str, actor: str = "") -> ev.GoodbyeSaid:
    return ev.GoodbyeSaid(vantage=witness, at=1.0, by=by, cause=cause, actor=actor)


def signalled(witness: Vantage, party: Party) -> ev.SignalReceived:
    return ev.SignalReceived(vantage=witness, at=1.0, party=party, signal=15)


def stream_ended(witness: Vantage, at: float = 1.0) -> ev.StreamEnded:
    return ev.StreamEnded(vantage=witness, at=at, peer=Party.RELAY, how=StreamEnd.EOF)


# -- the table is total ---------------------------------------------------------------------


def test_every_kind_of_fact_has_a_row() -> None:
    assert set(STANDING) == set(Evidence.__args__)


@pytest.mark.parametrize("code", CATALOGUE)
def test_every_cause_is_somebodys_doing_or_nobodys(code: str) -> None:
    assert doer_of(code) in (None, *Party)


def test_what_the_server_decides_is_its_own_doing() -> None:
    decided = {code for code in CATALOGUE if doer_of(code) is Party.SERVER}
    assert decided >= {"workspace.stopped", "agent.superseded", "auth.user_revoked"}
    assert not decided & {"agent.shutdown", "session.exit", "relay.shutdown", "client.closed"}


# -- what may be said on a stream -------------------------------------------------------------


def test_a_client_declares_only_what_is_the_clients() -> None:
    declared = {code for code in CATALOGUE if may_say(Party.CLIENT, code)}
    assert declared == {code for code in CATALOGUE if code.startswith("client.")}


def test_a_relay_declares_only_what_is_the_relays_or_its_servers() -> None:
    declared = {code for code in CATALOGUE if may_say(Party.RELAY, code)}
    assert declared == {code for code in CATALOGUE if code.startswith(("relay.", "server."))}


@pytest.mark.parametrize("party", [Party.AGENT, Party.SERVER])
def test_an_agent_tells_its_clients_what_the_server_decided(party: Party) -> None:
    assert all(may_say(party, code) for code in CATALOGUE)


@pytest.mark.parametrize("party", Party)
def test_everybody_may_leave_without_naming_a_cause(party: Party) -> None:
    assert may_say(party, "")


# -- testimony ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fact",
    [
        ev.LocalSideClosed(vantage=CLIENT, at=1.0),
        *map(stream_ended, OTHERS),
        *(signalled(witness, Party(str(witness))) for witness in Vantage),
        goodbye(CLIENT, Party.CLIENT, "client.closed", "signal:2"),
        goodbye(CLIENT, Party.AGENT, "agent.shutdown", "signal:15 from pid 1 uid 0"),
        goodbye(AGENT, Party.AGENT, "agent.shutdown", "signal:15 from pid 1 uid 0"),
        goodbye(AGENT, Party.CLIENT, "client.closed"),
        goodbye(AGENT, Party.AGENT, "session.killed", "user:alice"),
        goodbye(RELAY, Party.RELAY, "relay.shutdown"),
        goodbye(SERVER, Party.SERVER, "workspace.stopped", "admin:root"),
        goodbye(SERVER, Party.AGENT, "agent.shutdown"),
        ev.SessionEnded(vantage=AGENT, at=1.0, exit_code=0, open_sessions=0),
        ev.AccessRefused(vantage=AGENT, at=1.0, why=AccessRefusal.UNKNOWN_KEY),
        ev.Suspended(vantage=CLIENT, at=1.0, party=Party.CLIENT, gap_s=90.0),
        ev.PreviousRunDied(vantage=AGENT, at=1.0, party=Party.AGENT, host_rebooted=True),
    ],
)
def test_a_party_is_heard_about_what_it_can_have_seen_or_done(fact: Evidence) -> None:
    assert has_standing(fact.vantage, fact)


@pytest.mark.parametrize(
    "fact",
    [
        signalled(CLIENT, Party.AGENT),
        goodbye(CLIENT, Party.CLIENT, "workspace.stopped"),
        goodbye(CLIENT, Party.SERVER, "server.shutdown"),
        goodbye(CLIENT, Party.AGENT, "agent.shutdown", "admin:root"),
        ev.Authenticated(vantage=CLIENT, at=1.0, user="alice", method="publickey"),
        ev.SshDisconnected(vantage=CLIENT, at=1.0, by=Party.CLIENT, code=11, open_sessions=0),
        ev.SessionEnded(vantage=CLIENT, at=1.0, exit_code=0, open_sessions=0),
        ev.ProtocolViolated(vantage=CLIENT, at=1.0, by=Party.AGENT, what="x"),
        ev.AccessRefused(vantage=CLIENT, at=1.0, why=AccessRefusal.UNKNOWN_KEY),
        ev.HandshakeTimedOut(vantage=CLIENT, at=1.0, by=Party.CLIENT, after_s=30.0),
        ev.PreviousRunDied(vantage=CLIENT, at=1.0, party=Party.AGENT, host_rebooted=False),
        ev.NeverReturned(vantage=CLIENT, at=1.0, party=Party.AGENT, waited_s=1.0),
        ev.InternalFailure(vantage=CLIENT, at=1.0, party=Party.AGENT, what="x"),
        ev.PolicyRefused(vantage=CLIENT, at=1.0, policy=Policy.BLOCK_FILE_TRANSFER),
        ev.IdeBackendGone(vantage=CLIENT, at=1.0, pid=1),
        ev.Suspended(vantage=CLIENT, at=1.0, party=Party.AGENT, gap_s=90.0),
        goodbye(AGENT, Party.SERVER, "workspace.evicted", "admin:root"),
        goodbye(AGENT, Party.AGENT, "workspace.evicted", "admin:root"),
        goodbye(AGENT, Party.AGENT, "agent.superseded"),
        goodbye(AGENT, Party.AGENT, "agent.shutdown", "admin:root"),
        goodbye(AGENT, Party.AGENT, "agent.shutdown", "user:alice"),
        goodbye(AGENT, Party.AGENT, "agent.shutdown", "policy:autostop"),
        ev.SessionEnded(
            vantage=AGENT, at=1.0, open_sessions=0, cause="session.killed", actor="admin:root"
        ),
        ev.SessionEnded(vantage=AGENT, at=1.0, open_sessions=0, cause="workspace.stopped"),
        ev.InternalFailure(vantage=AGENT, at=1.0, party=Party.SERVER, what="x"),
        ev.InternalFailure(vantage=AGENT, at=1.0, party=Party.CLIENT, what="x"),
        ev.NeverReturned(vantage=AGENT, at=1.0, party=Party.SERVER, waited_s=1.0),
        ev.PreviousRunDied(vantage=AGENT, at=1.0, party=Party.CLIENT, host_rebooted=True),
        ev.OomKills(vantage=AGENT, at=1.0, party=Party.CLIENT, count=1, victim="self"),  # type: ignore[arg-type]
        ev.LocalSideClosed(vantage=AGENT, at=1.0),
        goodbye(RELAY, Party.RELAY, "workspace.autostop", "policy:autostop"),
        goodbye(RELAY, Party.AGENT, "agent.shutdown"),
        goodbye(RELAY, Party.CLIENT, "client.closed"),
        ev.SessionEnded(vantage=RELAY, at=1.0, exit_code=0, open_sessions=0),
        ev.PreviousRunDied(vantage=RELAY, at=1.0, party=Party.AGENT, host_rebooted=True),
        goodbye(SERVER, Party.AGENT, "workspace.evicted", "admin:root"),
        goodbye(SERVER, Party.CLIENT, "client.closed", "admin:root"),
    ],
)
def test_anything_else_is_hearsay(fact: Evidence) -> None:
    assert not has_standing(fact.vantage, fact)


@pytest.mark.parametrize("witness", OTHERS)
@pytest.mark.parametrize(
    "kind",
    [
        ev.Superseded,
        ev.ReportMissing,
        ev.IntentRecorded,
        ev.EndedTogether,
        ev.NeighbourEnded,
        ev.CutWhenIdle,
        ev.PeerReturned,
    ],
)
def test_what_the_servers_records_hold_is_nobody_elses_to_say(
    witness: Vantage, kind: type[ev.Fact]
) -> None:
    examples = [fact for case in EXAMPLES for fact in case.facts if type(fact) is kind]
    assert STANDING[kind].of(witness) == frozenset()
    assert all(has_standing(SERVER, fact) for fact in examples)


@pytest.mark.parametrize("reporter", OTHERS)
@pytest.mark.parametrize("witness", Vantage)
def test_a_relay_is_passed_on_by_both_ends_a_client_by_its_agent_and_nobody_else(
    reporter: Vantage, witness: Vantage
) -> None:
    told_to_it = witness is RELAY or (reporter, witness) == (AGENT, CLIENT)
    heard = has_standing(reporter, stream_ended(witness))
    assert heard is (reporter is witness or told_to_it)


@pytest.mark.parametrize("reporter", OTHERS)
@pytest.mark.parametrize(
    ("at", "counts"),
    [
        (0.0, False),
        (1_000_000.0 - CLOCK_ERROR_S, True),
        (1_000_500.0 + CLOCK_ERROR_S, True),
        (1_000_501.0 + CLOCK_ERROR_S, False),
        (4e9, False),
    ],
)
def test_nobody_saw_what_lies_before_the_connection_or_after_its_report(
    reporter: Vantage, at: float, counts: bool
) -> None:
    fact = stream_ended(reporter, at)
    assert has_standing(reporter, fact, Lifetime(1_000_000.0, 1_000_500.0)) is counts


@pytest.mark.parametrize("case", EXAMPLES)
def test_what_the_rules_are_shown_with_is_all_testimony(case: object) -> None:
    told = [fact for fact in case.facts if not has_standing(fact.vantage, fact)]  # type: ignore[attr-defined]
    assert [fact for fact in told if not isinstance(fact, ev.GoodbyeSaid)] == []


# -- what is only heard -----------------------------------------------------------------------


def test_what_a_client_heard_is_what_others_said_to_it() -> None:
    assert is_heard(goodbye(CLIENT, Party.AGENT, "agent.shutdown"))
    assert not is_heard(goodbye(CLIENT, Party.CLIENT, "client.closed"))
    assert not is_heard(stream_ended(CLIENT))


def test_what_only_went_before_an_end_tells_none() -> None:
    assert not tells_an_end(signalled(CLIENT, Party.CLIENT))
    assert tells_an_end(goodbye(CLIENT, Party.AGENT, "agent.shutdown"))


def test_every_rule_but_the_last_decides_on_a_case_that_tells_an_end() -> None:
    """A rule that reads a new kind of ending fact must have that kind listed in `standing`."""
    without = [
        rule.name
        for rule, case in zip(RULES, EXAMPLES, strict=True)
        if not any(tells_an_end(fact) for fact in case.facts)
    ]
    assert without == ["no-evidence"]


def test_an_agent_can_know_that_its_client_sent_garbage_and_no_more_of_what_it_did() -> None:
    known = [
        cause
        for cause in ("client.protocol_error", "client.closed", "server.protocol_error")
        if can_know(Party.AGENT, cause, "")
    ]
    assert known == ["client.protocol_error"]
    assert not can_know(Party.AGENT, "client.protocol_error", "admin:alice")


def test_a_client_lets_go_of_a_terminal_and_ends_none() -> None:
    known = [can_know(Party.CLIENT, cause, "") for cause in ("session.detached", "session.exit")]
    assert known == [True, False]
