"""What a verdict carries beside its cause: actor, exit status, one line of detail."""

from __future__ import annotations

import pytest

from tether.attribution import evidence as ev
from tether.attribution.classify import Verdict, classify, signal_actor
from tether.attribution.disconnect import Disconnect
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import (
    AccessRefusal,
    Basis,
    Confidence,
    ConnectType,
    Party,
    StreamEnd,
    Vantage,
)

A2C, S2A = ConnectType.AGENT_TO_CLIENT, ConnectType.SERVER_TO_AGENT
LOGGED_IN = ev.Authenticated(vantage=Vantage.AGENT, at=0.5, user="alice", method="publickey")


def exited(
    *, code: int | None = None, signal: str | None = None, at: float = 2.0
) -> ev.SessionEnded:
    return ev.SessionEnded(
        vantage=Vantage.AGENT, at=at, exit_code=code, exit_signal=signal, open_sessions=0
    )


def bye() -> ev.SshDisconnected:
    return ev.SshDisconnected(
        vantage=Vantage.AGENT, at=3.0, by=Party.CLIENT, code=11, open_sessions=0
    )


def goodbye(cause: str, *, actor: str = "", detail: str = "") -> ev.GoodbyeSaid:
    return ev.GoodbyeSaid(
        vantage=Vantage.AGENT, at=2.0, by=Party.AGENT, cause=cause, actor=actor, detail=detail
    )


def ended(how: StreamEnd = StreamEnd.EOF, **more: object) -> ev.StreamEnded:
    return ev.StreamEnded(
        vantage=Vantage.RELAY,
        at=3.0,
        peer=Party.CLIENT,
        how=how,
        **more,  # type: ignore[arg-type]
    )


def judged(*seen: Evidence) -> Disconnect:
    return classify(A2C, seen).disconnect


def test_a_command_that_fails_is_graceful_with_its_exit_code() -> None:
    assert classify(A2C, (LOGGED_IN, exited(code=3), bye())) == Verdict(
        Disconnect(
            connect_type=A2C,
            cause="session.exit",
            basis=Basis.OBSERVED,
            detail="The last session's process ended with an exit status, then the client "
            "disconnected.",
            exit_code=3,
        ),
        rule="session-exited",
        because="The last session's process ended with an exit status, then the client "
        "disconnected.",
    )


def test_a_command_that_is_signalled_is_graceful_with_its_signal() -> None:
    disconnect = judged(LOGGED_IN, exited(signal="TERM"), bye())
    assert (disconnect.cause, disconnect.exit_code, disconnect.exit_signal) == (
        "session.signal",
        None,
        "TERM",
    )


def test_the_exit_status_is_that_of_the_last_session() -> None:
    disconnect = judged(LOGGED_IN, exited(code=7, at=2.5), exited(code=1, at=1.0), bye())
    assert disconnect.exit_code == 7


def test_nothing_known_is_unknown() -> None:
    assert classify(A2C, ()) == Verdict(
        Disconnect(
            connect_type=A2C,
            cause="unknown",
            basis=Basis.INFERRED,
            detail="Nothing that was seen or said explains this end.",
        ),
        rule="no-evidence",
        because="Nothing that was seen or said explains this end.",
        confidence=Confidence.LOW,
    )


# -- the actor ------------------------------------------------------------------------


def test_the_actor_is_who_the_goodbye_names() -> None:
    said = goodbye("agent.shutdown", actor="signal:15 from pid 1 uid 0")
    assert judged(said).actor == "signal:15 from pid 1 uid 0"


def test_the_actor_of_another_cause_is_not_taken() -> None:
    server = ev.GoodbyeSaid(
        vantage=Vantage.SERVER,
        at=2.0,
        by=Party.SERVER,
        cause="server.shutdown",
        actor="admin:bob",
    )
    assert judged(goodbye("agent.shutdown"), server).actor == ""


def test_without_a_named_actor_the_sender_of_the_signal_is_it() -> None:
    signal = ev.SignalReceived(
        vantage=Vantage.AGENT, at=1.0, party=Party.AGENT, signal=15, sender="pid 1 uid 0"
    )
    assert judged(signal, goodbye("agent.shutdown")).actor == "signal:15 from pid 1 uid 0"


def test_a_signal_to_another_party_names_no_actor() -> None:
    signal = ev.SignalReceived(vantage=Vantage.CLIENT, at=1.0, party=Party.CLIENT, signal=15)
    assert judged(signal, goodbye("agent.shutdown")).actor == ""


@pytest.mark.parametrize(
    ("number", "sender", "words"),
    [(15, "pid 1 uid 0", "signal:15 from pid 1 uid 0"), (1, "", "signal:1")],
)
def test_a_signal_in_words(number: int, sender: str, words: str) -> None:
    assert signal_actor(number, sender) == words


# -- the detail -----------------------------------------------------------------------


def test_what_a_goodbye_says_is_the_detail() -> None:
    said = goodbye("agent.shutdown", detail="host maintenance at noon")
    assert judged(said, ended()).detail == "host maintenance at noon"


def test_a_protocol_error_shows_what_was_wrong() -> None:
    wrong = ev.ProtocolViolated(
        vantage=Vantage.AGENT, at=1.0, by=Party.CLIENT, what="bad SSH version"
    )
    assert judged(wrong, ended()).detail == "bad SSH version"


def test_a_session_that_could_not_be_started_says_what_its_code_means() -> None:
    detail = judged(LOGGED_IN, exited(code=229), bye()).detail
    assert "could not start" in detail
    assert "could not start" not in judged(LOGGED_IN, exited(code=228), bye()).detail


def test_an_internal_error_shows_what_failed() -> None:
    failed = ev.InternalFailure(
        vantage=Vantage.AGENT, at=1.0, party=Party.AGENT, what="KeyError: 'x'"
    )
    wrong = ev.ProtocolViolated(vantage=Vantage.AGENT, at=1.0, by=Party.CLIENT, what="bad packet")
    assert judged(failed, wrong).detail == "KeyError: 'x'"
    assert judged(failed, wrong).cause == "agent.internal_error"


def test_a_failure_elsewhere_is_not_the_detail() -> None:
    failed = ev.InternalFailure(vantage=Vantage.CLIENT, at=1.0, party=Party.CLIENT, what="KeyError")
    assert judged(failed, goodbye("agent.shutdown")).detail == (
        "The party that left said so, and why, before it closed."
    )


def test_a_refusal_shows_what_was_refused() -> None:
    refused = ev.AccessRefused(
        vantage=Vantage.AGENT,
        at=1.0,
        why=AccessRefusal.UNKNOWN_KEY,
        detail="SHA256:abc",
    )
    assert judged(refused).detail == "SHA256:abc"
    assert judged(refused, LOGGED_IN).detail != "SHA256:abc"


def test_a_stream_end_shows_who_saw_what() -> None:
    assert judged(LOGGED_IN, ended(StreamEnd.RESET, errno="ECONNRESET")).detail == (
        "The client's stream ended at once and without a goodbye. "
        "(relay saw client: reset, ECONNRESET)"
    )
    assert judged(LOGGED_IN, ended(StreamEnd.SILENT, silence_s=30.4)).detail == (
        "Nothing more was heard from the client. (relay saw client: silent, silent for 30 s)"
    )


def test_a_cause_of_a_newer_peer_is_named_in_the_detail() -> None:
    assert judged(goodbye("network.gremlins")).detail == (
        "a cause that this version does not know: network.gremlins"
    )


def test_a_control_links_row_is_judged_by_the_same_table() -> None:
    stop = ev.GoodbyeSaid(
        vantage=Vantage.SERVER,
        at=1.0,
        by=Party.SERVER,
        cause="workspace.stopped",
        actor="user:alice",
    )
    assert classify(S2A, (stop,)).disconnect.fields() == {
        "connect_type": "server_to_agent",
        "disconnect_reason": "workspace_stopped",
        "disconnect_expected": True,
        "disconnect_initiator": "server",
        "disconnect_detail": "The party that left said so, and why, before it closed.",
        "disconnect_cause": "workspace.stopped",
        "disconnect_basis": "declared",
        "disconnect_actor": "user:alice",
    }


def test_an_orderly_close_that_followed_is_not_given_as_the_reason() -> None:
    """The relay sees a leg that said goodbye close with 1000: a consequence, not evidence."""
    logged_in = ev.Authenticated(
        vantage=Vantage.AGENT, at=1.0, user="alice", method="publickey", client="OpenSSH_9.2"
    )
    closed = ev.LocalSideClosed(vantage=Vantage.CLIENT, at=2.0)
    leg = ev.StreamEnded(
        vantage=Vantage.RELAY, at=3.0, peer=Party.CLIENT, how=StreamEnd.CLOSED, close_code=1000
    )
    verdict = classify(ConnectType.AGENT_TO_CLIENT, (logged_in, closed, leg))
    assert (verdict.rule, verdict.disconnect.detail) == ("ssh-killed", verdict.because)
