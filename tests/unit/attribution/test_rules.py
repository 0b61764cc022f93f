"""The eight laws of the rule table, over the real table and its real examples.

1 every rule has one example, in the order of the table; 2 each example is decided by its rule;
3 without a rule its example is judged otherwise; 4 the order of the facts does not matter; 5 any
facts give exactly one verdict; 6 every cause has a rule or an emitter (`test_causes.py`); 7 the
tables over words are total (`test_vocabulary.py`, `test_causes.py`); 8 no reason names a party or a
layer (`test_vocabulary.py`). A ninth, on what is withheld, has a file of its own (`test_withheld.py`).
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, strategies as st

from tests.support.protocol.facts import facts
from tether.attribution import evidence as ev
from tether.attribution.case import Case
from tether.attribution.causes.catalogue import CATALOGUE
from tether.attribution.classify import classify
from tether.attribution.evidence import Evidence
from tether.attribution.examples.table import EXAMPLES
from tether.attribution.picks import by_goodbye, by_refusal
from tether.attribution.rules.rule import Rule
from tether.attribution.rules.table import RULES
from tether.attribution.vocabulary import (
    AccessRefusal,
    Basis,
    ConnectType,
    HandshakeStage,
    Party,
    Policy,
    Reason,
    StreamEnd,
    Vantage,
)

A2C, S2A, C2S = (
    ConnectType.AGENT_TO_CLIENT,
    ConnectType.SERVER_TO_AGENT,
    ConnectType.CLIENT_TO_SERVER,
)
PAIRS = list(zip(RULES, EXAMPLES, strict=True))


def ids(value: Rule | Case) -> str:
    return value.name if isinstance(value, Rule) else ""


def test_every_rule_has_one_example() -> None:
    assert len(RULES) == len(EXAMPLES)
    assert len({rule.name for rule in RULES}) == len(RULES)


@pytest.mark.parametrize(("rule", "case"), PAIRS, ids=ids)
def test_each_example_is_decided_by_its_rule(rule: Rule, case: Case) -> None:
    assert classify(case.connect_type, case.facts).rule == rule.name


@pytest.mark.parametrize(("rule", "case"), PAIRS[:-1], ids=ids)
def test_without_a_rule_its_example_is_judged_otherwise(rule: Rule, case: Case) -> None:
    others = tuple(other for other in RULES if other is not rule)
    whole = classify(case.connect_type, case.facts).disconnect
    without = classify(case.connect_type, case.facts, others).disconnect
    assert whole.cause != without.cause


@pytest.mark.parametrize(("rule", "case"), PAIRS, ids=ids)
def test_any_order_of_an_examples_facts_gives_the_same_verdict(rule: Rule, case: Case) -> None:
    verdicts = {classify(case.connect_type, p) for p in itertools.permutations(case.facts)}
    assert len(verdicts) == 1


@given(st.sampled_from(ConnectType), st.lists(facts, max_size=8), st.randoms(use_true_random=False))
def test_any_facts_give_exactly_one_verdict_in_any_order(
    connect_type: ConnectType, seen: list[Evidence], rnd: Random
) -> None:
    verdict = classify(connect_type, seen)
    rnd.shuffle(seen)
    assert classify(connect_type, seen) == verdict
    assert verdict.rule in {rule.name for rule in RULES}
    assert verdict.disconnect.connect_type is connect_type
    assert verdict.disconnect.fields()["disconnect_cause"] == verdict.disconnect.cause


@pytest.mark.parametrize("rule", RULES, ids=ids)
def test_a_rule_names_a_known_cause_and_can_be_printed(rule: Rule) -> None:
    if isinstance(rule.cause, str):
        assert rule.cause in CATALOGUE
    else:
        assert rule.cause.__doc__
    assert rule.when.__name__ not in {"", "check", "<lambda>"}
    assert rule.because.endswith(".")
    assert rule.because[0].isupper()


def test_only_what_a_party_said_is_declared() -> None:
    assert {rule.name for rule in RULES if rule.basis is Basis.DECLARED} == {
        "stopped-as-intended",
        "stopped-as-declared",
        "died-as-intended",
        "intended",
        "goodbye",
        "client-ssh-aborted",
        "client-disconnected",
        "client-goodbye",
    }


def test_a_stream_that_ends_without_a_goodbye_is_never_graceful() -> None:
    for how, peer, kind in itertools.product(StreamEnd, Party, ConnectType):
        ended = ev.StreamEnded(vantage=Vantage.RELAY, at=1.0, peer=peer, how=how)
        logged_in = ev.Authenticated(vantage=Vantage.AGENT, at=0.5, user="a", method="publickey")
        exited = ev.SessionEnded(vantage=Vantage.AGENT, at=0.9, exit_code=0, open_sessions=0)
        for seen in ((ended,), (logged_in, ended), (logged_in, exited, ended)):
            disconnect = classify(kind, seen).disconnect
            assert disconnect.reason is not Reason.GRACEFUL
            assert not disconnect.expected


@pytest.mark.parametrize(("peer", "code"), [(p, p.value) for p in Party])
def test_every_way_a_stream_can_stop_has_a_rule(peer: Party, code: str) -> None:
    for how in StreamEnd:
        fact = ev.StreamEnded(vantage=Vantage.RELAY, at=1.0, peer=peer, how=how)
        assert classify(A2C, (fact,)).disconnect.cause.startswith(f"{code}.")


# -- precedence, where two stories meet -----------------------------------------------

LOGGED_IN = ev.Authenticated(
    vantage=Vantage.AGENT, at=0.5, user="alice", method="publickey", client="OpenSSH_9.2p1"
)
PIPE_CLOSED = ev.LocalSideClosed(vantage=Vantage.CLIENT, at=3.0)


def said(by: Party, cause: str, *, vantage: Vantage, actor: str = "") -> ev.GoodbyeSaid:
    return ev.GoodbyeSaid(vantage=vantage, at=2.0, by=by, cause=cause, actor=actor)


def refused(why: AccessRefusal) -> ev.AccessRefused:
    return ev.AccessRefused(vantage=Vantage.AGENT, at=1.0, why=why)


def bye(open_sessions: int) -> ev.SshDisconnected:
    return ev.SshDisconnected(
        vantage=Vantage.AGENT, at=3.0, by=Party.CLIENT, code=11, open_sessions=open_sessions
    )


def exited(code: int, *, left: int, at: float = 2.0) -> ev.SessionEnded:
    return ev.SessionEnded(vantage=Vantage.AGENT, at=at, exit_code=code, open_sessions=left)


def cause(kind: ConnectType, *seen: Evidence) -> str:
    return classify(kind, seen).disconnect.cause


def test_the_goodbye_of_the_party_that_left_outranks_the_clients() -> None:
    client = said(Party.CLIENT, "client.closed", vantage=Vantage.AGENT)
    server = said(Party.SERVER, "workspace.autostop", vantage=Vantage.SERVER)
    assert cause(S2A, client, server) == "workspace.autostop"


def test_a_goodbye_outranks_an_exit_and_a_disconnect() -> None:
    goodbye = said(Party.AGENT, "agent.shutdown", vantage=Vantage.AGENT)
    assert cause(A2C, LOGGED_IN, goodbye, exited(1, left=0), bye(0)) == "agent.shutdown"


def test_an_exit_outranks_the_close_that_follows_it() -> None:
    assert cause(A2C, LOGGED_IN, exited(0, left=0), PIPE_CLOSED) == "session.exit"
    assert cause(A2C, LOGGED_IN, exited(0, left=1), PIPE_CLOSED) == "client.ssh_killed"


@pytest.mark.parametrize(
    ("client", "silent_end"),
    [
        ("OpenSSH_9.2p1 Debian-2+deb12u3", "client.ssh_killed"),
        ("OpenSSH_for_Windows_9.5", "client.closed"),
        ("paramiko_5.1.0", "client.closed"),
        ("PuTTY_Release_0.78", "client.closed"),
        ("Go", "client.closed"),
        ("something-new", "client.closed"),
        ("", "client.closed"),
    ],
)
def test_a_silent_end_is_a_crash_only_of_those_who_tell_otherwise(
    client: str, silent_end: str
) -> None:
    logged_in = replace(LOGGED_IN, client=client)
    assert cause(A2C, logged_in, PIPE_CLOSED) == silent_end
    for number in (1, 2, 15):  # a program that ends by itself, Ctrl-C, a program that is asked to
        assert cause(A2C, logged_in, replace(PIPE_CLOSED, signal=number)) == "client.closed"


def test_a_client_that_gives_up_unanswered_gave_up_for_the_network() -> None:
    gave_up = replace(PIPE_CLOSED, signal=1, unanswered_s=6.0)
    assert cause(A2C, LOGGED_IN, gave_up) == "network.path_lost"
    told = said(Party.CLIENT, "client.closed", vantage=Vantage.SERVER)
    assert cause(A2C, LOGGED_IN, gave_up, told) == "network.path_lost"
    died = ev.PreviousRunDied(vantage=Vantage.AGENT, at=9.0, party=Party.AGENT, host_rebooted=True)
    assert cause(A2C, LOGGED_IN, gave_up, died) == "agent.host_rebooted"
    assert cause(A2C, LOGGED_IN, replace(gave_up, unanswered_s=0.5)) == "client.closed"


def test_who_presses_ctrl_c_at_the_question_for_the_host_key_has_left() -> None:
    shown = ev.HandshakeUnfinished(vantage=Vantage.AGENT, at=2.0, stage=HandshakeStage.HOST_KEY)
    assert cause(A2C, shown, PIPE_CLOSED) == "client.host_key_refused"
    assert cause(A2C, shown, replace(PIPE_CLOSED, signal=2)) == "client.closed"


def test_leaving_with_a_session_open_is_the_clients_doing() -> None:
    assert cause(A2C, LOGGED_IN, exited(0, left=1), bye(1)) == "client.closed"


def test_the_last_session_to_end_decides() -> None:
    killed = ev.SessionEnded(vantage=Vantage.AGENT, at=1.0, exit_signal="KILL", open_sessions=1)
    assert cause(A2C, LOGGED_IN, killed, exited(0, left=0), bye(0)) == "session.exit"


def test_a_control_link_is_never_ssh_killed() -> None:
    assert cause(C2S, LOGGED_IN, PIPE_CLOSED) == "client.closed"


def test_a_refused_key_followed_by_a_login_is_no_refusal() -> None:
    key = refused(AccessRefusal.UNKNOWN_KEY)
    assert cause(A2C, key, LOGGED_IN, exited(0, left=0), bye(0)) == "session.exit"


def test_the_most_telling_refusal_wins() -> None:
    telling = [
        (AccessRefusal.USER_REVOKED, "auth.user_revoked"),
        (AccessRefusal.CERTIFICATE_EXPIRED, "auth.certificate_expired"),
        (AccessRefusal.WRONG_WORKSPACE, "auth.certificate_refused"),
        (AccessRefusal.UNKNOWN_KEY, "auth.key_refused"),
    ]
    for i, (_, expected) in enumerate(telling):
        case = Case(A2C, tuple(refused(why) for why, _ in reversed(telling[i:])))
        assert by_refusal(case) == expected


def test_a_refusal_by_policy_is_the_cause_only_once_the_client_has_left() -> None:
    blocked = ev.PolicyRefused(
        vantage=Vantage.AGENT, at=1.0, policy=Policy.BLOCK_FILE_TRANSFER, what="sftp"
    )
    gone = ev.StreamEnded(vantage=Vantage.RELAY, at=3.0, peer=Party.CLIENT, how=StreamEnd.EOF)
    assert cause(A2C, LOGGED_IN, blocked, gone) == "client.vanished"
    assert cause(A2C, LOGGED_IN, blocked, exited(0, left=0), bye(0)) == "session.exit"
    assert cause(A2C, LOGGED_IN, blocked, bye(0)) == "policy.file_transfer_blocked"


def test_a_declared_cause_of_a_newer_peer_is_kept() -> None:
    goodbye = said(Party.SERVER, "network.gremlins", vantage=Vantage.AGENT)
    assert by_goodbye(Case(S2A, (goodbye,))) == "network.gremlins"


@pytest.mark.parametrize(
    ("last_ack_ms", "expected"), [(19_999, "agent.unresponsive"), (20_000, "agent.unreachable")]
)
def test_a_silent_agent_is_frozen_only_while_its_kernel_answers(
    last_ack_ms: int, expected: str
) -> None:
    frozen = next(case for rule, case in PAIRS if rule.name == "agent-unresponsive")
    seen = tuple(
        replace(fact, last_ack_recv_ms=last_ack_ms) if isinstance(fact, ev.TcpCounters) else fact
        for fact in frozen.facts
    )
    assert cause(S2A, *seen) == expected


def test_an_unknown_fact_decides_nothing() -> None:
    alien = ev.UnknownFact(vantage=Vantage.AGENT, at=1.0, original_kind="new", values=())
    for rule, case in PAIRS:
        assert classify(case.connect_type, (*case.facts, alien)).rule == rule.name
