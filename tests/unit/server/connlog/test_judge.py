"""From what several parties hand in to what a row says: the contract's table, as facts arrive."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from tests.support.server.rows import closed_row
from tether.attribution import evidence as ev
from tether.attribution.evidence import Evidence
from tether.attribution.examples.table import EXAMPLES
from tether.attribution.standing import doer_of
from tether.attribution.vocabulary import (
    AccessRefusal,
    Basis,
    Confidence,
    ConnectType,
    Element,
    Party,
    StreamEnd,
    Vantage,
)
from tether.server.connlog.judge import (
    Testimony as Said,
    classify_end,
    columns_of,
    differs,
)

A2C, S2A, C2S = (
    ConnectType.AGENT_TO_CLIENT,
    ConnectType.SERVER_TO_AGENT,
    ConnectType.CLIENT_TO_SERVER,
)
AGENT, CLIENT, RELAY, SERVER = Vantage.AGENT, Vantage.CLIENT, Vantage.RELAY, Vantage.SERVER


def said_by(reporter: Vantage, *facts: Evidence, symptoms: tuple[Evidence, ...] = ()) -> Said:
    return Said(reporter, 9.0, facts, symptoms)


def authenticated() -> Evidence:
    return ev.Authenticated(
        vantage=AGENT, at=1.0, user="alice", method="publickey", client="OpenSSH_9.2p1"
    )


def exited(code: int | None = 0, signal: str | None = None, left: int = 0) -> Evidence:
    return ev.SessionEnded(
        vantage=AGENT, at=2.0, exit_code=code, exit_signal=signal, open_sessions=left
    )


def ssh_bye(open_sessions: int, code: int = 11) -> Evidence:
    return ev.SshDisconnected(
        vantage=AGENT, at=3.0, by=Party.CLIENT, code=code, open_sessions=open_sessions
    )


def ended(
    peer: Party,
    how: StreamEnd = StreamEnd.EOF,
    vantage: Vantage = RELAY,
    close_code: int | None = None,
) -> Evidence:
    return ev.StreamEnded(vantage=vantage, at=4.0, peer=peer, how=how, close_code=close_code)


def goodbye(by: Party, cause: str, vantage: Vantage, actor: str = "") -> Evidence:
    return ev.GoodbyeSaid(vantage=vantage, at=3.5, by=by, cause=cause, actor=actor)


def local_closed() -> Evidence:
    return ev.LocalSideClosed(vantage=CLIENT, at=3.0)


def died(party: Party) -> Evidence:
    return ev.PreviousRunDied(
        vantage=Vantage(str(party)), at=30.0, party=party, host_rebooted=False, last_alive_at=4.0
    )


def never_returned() -> Evidence:
    return ev.NeverReturned(vantage=SERVER, at=19.0, party=Party.AGENT, waited_s=15.0)


def refused(why: AccessRefusal) -> Evidence:
    return ev.AccessRefused(vantage=AGENT, at=1.0, why=why)


RELAY_SAW_CLIENT_CLOSE = said_by(RELAY, ended(Party.CLIENT, StreamEnd.CLOSED, close_code=1000))
SIGTERM = "signal:15 from pid 1 uid 0"
ADMIN = "admin:root"

Row = tuple[str, bool, str]
"""Reason, expected, initiator."""

GRACEFUL: Row = ("graceful", True, "client")
CLOSED: Row = ("client_closed", True, "client")
SHUTDOWN: Row = ("server_shutdown", True, "server")
STOPPED: Row = ("workspace_stopped", True, "server")

SCENARIOS: dict[str, tuple[ConnectType, tuple[Said, ...], str, Row]] = {
    "a command ends": (
        A2C,
        (said_by(AGENT, authenticated(), exited(3), ssh_bye(0)), RELAY_SAW_CLIENT_CLOSE),
        "session.exit",
        GRACEFUL,
    ),
    "a command is killed": (
        A2C,
        (said_by(AGENT, authenticated(), exited(None, "KILL"), ssh_bye(0)), RELAY_SAW_CLIENT_CLOSE),
        "session.signal",
        GRACEFUL,
    ),
    "the terminal is closed": (
        A2C,
        (
            said_by(AGENT, authenticated(), ssh_bye(1)),
            said_by(CLIENT, local_closed()),
            RELAY_SAW_CLIENT_CLOSE,
        ),
        "client.closed",
        CLOSED,
    ),
    "ssh alone is killed": (
        A2C,
        (
            said_by(AGENT, authenticated(), local_closed()),
            said_by(CLIENT, local_closed()),
            RELAY_SAW_CLIENT_CLOSE,
        ),
        "client.ssh_killed",
        ("process_crashed", False, "client"),
    ),
    "ssh and its proxy are killed": (
        A2C,
        (
            said_by(AGENT, authenticated(), ended(Party.CLIENT, StreamEnd.RESET)),
            said_by(RELAY, ended(Party.CLIENT, StreamEnd.RESET)),
        ),
        "client.vanished",
        ("process_crashed", False, "client"),
    ),
    "the agent is asked to stop": (
        A2C,
        (
            said_by(
                AGENT,
                authenticated(),
                goodbye(Party.AGENT, "agent.shutdown", AGENT, SIGTERM),
                symptoms=(ssh_bye(1),),
            ),
            said_by(RELAY, ended(Party.AGENT, StreamEnd.CLOSED, close_code=1000)),
            said_by(CLIENT, goodbye(Party.AGENT, "agent.shutdown", CLIENT, SIGTERM)),
        ),
        "agent.shutdown",
        ("server_shutdown", True, "agent"),
    ),
    "the agent is killed and returns": (
        A2C,
        (said_by(RELAY, ended(Party.AGENT)), said_by(AGENT, authenticated(), died(Party.AGENT))),
        "agent.crashed",
        ("process_crashed", False, "agent"),
    ),
    "the agent is killed and never returns": (
        A2C,
        (said_by(RELAY, ended(Party.AGENT)), said_by(SERVER, never_returned())),
        "agent.vanished",
        ("process_crashed", False, "agent"),
    ),
    "the server is asked to stop": (
        A2C,
        (
            said_by(SERVER, goodbye(Party.SERVER, "server.shutdown", SERVER, SIGTERM)),
            said_by(
                AGENT, authenticated(), goodbye(Party.RELAY, "server.shutdown", RELAY, SIGTERM)
            ),
        ),
        "server.shutdown",
        SHUTDOWN,
    ),
    "the server is killed, and a session was open": (
        A2C,
        (
            said_by(SERVER, died(Party.SERVER)),
            said_by(AGENT, authenticated(), ended(Party.RELAY, vantage=AGENT)),
        ),
        "relay.crashed",
        ("process_crashed", False, "server"),
    ),
    "the server is killed, and the agent's link was up": (
        S2A,
        (
            said_by(SERVER, died(Party.SERVER)),
            said_by(AGENT, ended(Party.SERVER, vantage=AGENT)),
        ),
        "server.crashed",
        ("control_plane_lost", False, "server"),
    ),
    "the workspace is stopped, and a session was open": (
        A2C,
        (
            said_by(
                AGENT,
                authenticated(),
                goodbye(Party.SERVER, "workspace.stopped", AGENT, "user:alice"),
                symptoms=(ssh_bye(1),),
            ),
            said_by(SERVER, goodbye(Party.SERVER, "workspace.stopped", SERVER, "user:alice")),
            said_by(RELAY, ended(Party.AGENT, StreamEnd.CLOSED, close_code=1000)),
        ),
        "workspace.stopped",
        STOPPED,
    ),
    "the workspace is stopped by its schedule, and its agent is not there": (
        A2C,
        (
            said_by(RELAY, ended(Party.AGENT)),
            said_by(SERVER, goodbye(Party.SERVER, "workspace.autostop", SERVER, "policy:autostop")),
        ),
        "workspace.autostop",
        STOPPED,
    ),
    "the workspace is stopped, and the agent's link was up": (
        S2A,
        (said_by(SERVER, goodbye(Party.SERVER, "workspace.stopped", SERVER, "user:alice")),),
        "workspace.stopped",
        STOPPED,
    ),
    "the client sends garbage": (
        A2C,
        (
            said_by(
                AGENT,
                ev.ProtocolViolated(vantage=AGENT, at=1.0, by=Party.CLIENT, what="bad SSH version"),
            ),
            RELAY_SAW_CLIENT_CLOSE,
        ),
        "client.protocol_error",
        ("protocol_error", False, "client"),
    ),
    "a stranger's key": (
        A2C,
        (
            said_by(AGENT, refused(AccessRefusal.UNKNOWN_KEY), local_closed()),
            RELAY_SAW_CLIENT_CLOSE,
        ),
        "auth.key_refused",
        ("access_revoked", False, "agent"),
    ),
    "an expired certificate": (
        A2C,
        (
            said_by(AGENT, refused(AccessRefusal.CERTIFICATE_EXPIRED), ended(Party.CLIENT)),
            RELAY_SAW_CLIENT_CLOSE,
        ),
        "auth.certificate_expired",
        ("session_expired", True, "server"),
    ),
    "a certificate for another workspace": (
        A2C,
        (said_by(AGENT, refused(AccessRefusal.WRONG_WORKSPACE), ended(Party.CLIENT)),),
        "auth.certificate_refused",
        ("access_revoked", False, "agent"),
    ),
    "a login that does not come": (
        A2C,
        (
            said_by(
                AGENT,
                ev.HandshakeTimedOut(vantage=AGENT, at=30.0, by=Party.CLIENT, after_s=30.0),
            ),
        ),
        "client.handshake_timeout",
        ("peer_unresponsive", False, "client"),
    ),
    "the user's access is withdrawn": (
        A2C,
        (
            said_by(
                AGENT,
                authenticated(),
                goodbye(Party.SERVER, "auth.user_revoked", AGENT, "admin:bob"),
            ),
            said_by(SERVER, goodbye(Party.SERVER, "auth.user_revoked", SERVER, "admin:bob")),
        ),
        "auth.user_revoked",
        ("access_revoked", True, "server"),
    ),
    "the client leaves its control link": (
        C2S,
        (said_by(SERVER, goodbye(Party.CLIENT, "client.closed", SERVER)),),
        "client.closed",
        CLOSED,
    ),
    "the client's control link breaks": (
        C2S,
        (said_by(SERVER, ended(Party.CLIENT, vantage=SERVER)),),
        "client.vanished",
        ("process_crashed", False, "client"),
    ),
    "a second agent takes over": (
        S2A,
        (
            said_by(
                SERVER,
                ev.Superseded(vantage=SERVER, at=2.0, by_instance="i-2"),
                symptoms=(goodbye(Party.AGENT, "agent.shutdown", SERVER),),
            ),
            said_by(AGENT, goodbye(Party.SERVER, "agent.superseded", AGENT)),
        ),
        "agent.superseded",
        ("superseded", False, "server"),
    ),
    "an agent that is back knows nothing of it": (
        A2C,
        (said_by(SERVER, ev.ReportMissing(vantage=SERVER, at=9.0, party=Party.AGENT)),),
        "unknown",
        ("unknown", False, ""),
    ),
    "nobody says anything": (A2C, (), "unknown", ("unknown", False, "")),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_row_says_what_happened(name: str) -> None:
    connect_type, testimonies, cause, row = SCENARIOS[name]
    columns = columns_of(classify_end(connect_type, testimonies))
    told = (
        columns["disconnect_reason"],
        columns["disconnect_expected"],
        columns["disconnect_initiator"],
    )
    assert (columns["disconnect_cause"], told) == (cause, row)


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_order_in_which_reports_come_does_not_matter(name: str) -> None:
    connect_type, testimonies, _, _ = SCENARIOS[name]
    judged = {
        tuple(sorted(columns_of(classify_end(connect_type, order)).items(), key=str))
        for order in permutations(testimonies)
    }
    assert len(judged) == 1


def test_actor_and_exit_status_reach_the_row() -> None:
    agent_stopped = SCENARIOS["the agent is asked to stop"]
    assert columns_of(classify_end(A2C, agent_stopped[1]))["disconnect_actor"] == SIGTERM
    exit_3 = columns_of(classify_end(A2C, SCENARIOS["a command ends"][1]))
    assert (exit_3["exit_code"], exit_3["exit_signal"]) == (3, None)
    killed = columns_of(classify_end(A2C, SCENARIOS["a command is killed"][1]))
    assert (killed["exit_code"], killed["exit_signal"]) == (None, "KILL")


def test_a_symptom_is_never_judged() -> None:
    only_symptoms = said_by(AGENT, symptoms=(goodbye(Party.AGENT, "agent.shutdown", AGENT),))
    assert columns_of(classify_end(A2C, (only_symptoms,)))["disconnect_cause"] == "unknown"


SERVERS_WORDS = [
    ev.IntentRecorded(
        vantage=AGENT, at=3.0, intent="evict", cause="workspace.evicted", before_s=0.1, actor=ADMIN
    ),
    goodbye(Party.SERVER, "workspace.evicted", AGENT, ADMIN),
    goodbye(Party.AGENT, "workspace.evicted", AGENT, ADMIN),
    goodbye(Party.AGENT, "agent.shutdown", AGENT, ADMIN),
    ev.InternalFailure(vantage=AGENT, at=3.0, party=Party.SERVER, what="oops"),
    ev.InternalFailure(vantage=AGENT, at=3.0, party=Party.CLIENT, what="oops"),
    ev.Superseded(vantage=AGENT, at=3.0, by_instance="x"),
    ev.EndedTogether(vantage=AGENT, at=3.0, element=Element.NODE, ended=5, alive=0),
]


@pytest.mark.parametrize("lie", SERVERS_WORDS)
def test_an_agent_cannot_make_the_record_name_the_server_or_an_administrator(lie: Evidence) -> None:
    honest = said_by(AGENT, authenticated(), ended(Party.CLIENT, vantage=AGENT))
    without = columns_of(classify_end(A2C, (honest,)))
    assert columns_of(classify_end(A2C, (honest, said_by(AGENT, lie)))) == without


@pytest.mark.parametrize("at", [0.0, 4e9])
def test_what_lies_outside_the_connections_life_is_kept_and_not_judged(at: float) -> None:
    lie = ev.GoodbyeSaid(vantage=AGENT, at=at, by=Party.AGENT, cause="agent.shutdown")
    said = Said(AGENT, 1_800_000_100.0, (lie,)).by_standing(1_800_000_000.0)
    assert (said.facts, said.hearsay) == ((), (lie,))


LIARS = (AGENT, CLIENT, RELAY)
FACTS = sorted({fact for case in EXAMPLES for fact in case.facts}, key=repr)
"""What any rule reads, in the words in which it reads it."""


def _lies(liar: Vantage) -> st.SearchStrategy[list[Evidence]]:
    """What the holder of one party's token can send: every fact, in its own name or another's."""
    own = st.sampled_from(FACTS).flatmap(
        lambda fact: st.sampled_from([replace(fact, vantage=liar), fact])
    )
    return st.lists(own, min_size=1, max_size=4)


@pytest.mark.parametrize("liar", LIARS)
@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_no_set_of_lies_makes_another_party_declare_or_the_record_sure_of_it(
    liar: Vantage, data: st.DataObject
) -> None:
    """With what the others honestly said (any one rule's example), a verdict about another party is
    declared or sure only where it would be so without the liar."""
    case = data.draw(st.sampled_from(EXAMPLES))
    honest = [said_by(fact.vantage, fact) for fact in case.facts if fact.vantage is not liar]
    lies = said_by(liar, *data.draw(_lies(liar)))
    judged = classify_end(case.connect_type, (*honest, lies))
    doer = doer_of(judged.disconnect.cause)
    if doer in (None, Party(str(liar))):
        return
    without = classify_end(case.connect_type, honest)
    same = without.disconnect.cause == judged.disconnect.cause
    if judged.disconnect.basis is Basis.DECLARED:
        assert same
        assert without.disconnect.basis is Basis.DECLARED
    if judged.confidence is Confidence.HIGH:
        assert same
        assert without.confidence is Confidence.HIGH


def test_a_client_cannot_speak_for_the_agent_or_the_server() -> None:
    forged = said_by(
        CLIENT,
        died(Party.AGENT),
        goodbye(Party.SERVER, "workspace.stopped", SERVER, "user:alice"),
        ev.InternalFailure(vantage=AGENT, at=1.0, party=Party.AGENT, what="oops"),
    )
    honest = said_by(AGENT, authenticated(), ended(Party.CLIENT))
    assert columns_of(classify_end(A2C, (forged, honest)))["disconnect_cause"] == "client.vanished"


@pytest.mark.parametrize(
    "fact",
    [
        ev.ProtocolViolated(vantage=CLIENT, at=1.0, by=Party.AGENT, what="x"),
        ev.InternalFailure(vantage=CLIENT, at=1.0, party=Party.AGENT, what="x"),
        ev.SignalReceived(vantage=CLIENT, at=1.0, party=Party.AGENT, signal=9),
        ev.Superseded(vantage=CLIENT, at=1.0, by_instance="x"),
        goodbye(Party.CLIENT, "workspace.stopped", CLIENT, "admin:root"),
    ],
)
def test_a_client_is_not_heard_about_what_it_cannot_have_seen(fact: ev.Evidence) -> None:
    said = said_by(CLIENT, fact, local_closed()).by_standing(0.0)
    assert (said.facts, said.hearsay) == ((local_closed(),), (fact,))


def test_what_a_client_heard_is_kept_and_not_judged_where_anybody_tells_an_end() -> None:
    heard = goodbye(Party.AGENT, "agent.shutdown", CLIENT, SIGTERM)
    assert said_by(CLIENT, heard).by_standing(0.0).hearsay == ()
    alone = classify_end(A2C, (said_by(CLIENT, heard),))
    assert alone.disconnect.cause == "agent.shutdown"
    assert (alone.disconnect.basis, alone.confidence) == (Basis.OBSERVED, Confidence.MEDIUM)
    for other in (AGENT, RELAY):
        told = said_by(other, ended(Party.CLIENT))
        judged = classify_end(A2C, (said_by(CLIENT, heard), told))
        assert judged.disconnect.cause == "client.vanished"


def test_what_went_before_an_end_does_not_silence_what_a_client_heard() -> None:
    heard = goodbye(Party.AGENT, "agent.shutdown", CLIENT, SIGTERM)
    judged = classify_end(A2C, (said_by(AGENT, authenticated()), said_by(CLIENT, heard)))
    assert judged.disconnect.cause == "agent.shutdown"


def test_other_words_for_the_same_end_are_no_new_judgement() -> None:
    agent = said_by(AGENT, ended(Party.CLIENT, StreamEnd.EOF))
    relay = said_by(RELAY, ended(Party.CLIENT, StreamEnd.RESET))
    first, second = classify_end(A2C, (relay,)), classify_end(A2C, (relay, agent))
    assert not differs(second, closed_row(first))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("disconnect_cause", "client.vanished"),
        ("disconnect_basis", "inferred"),
        ("disconnect_actor", "user:bob"),
        ("exit_code", 7),
        ("exit_signal", "KILL"),
    ],
)
def test_another_cause_basis_actor_or_status_is_a_new_judgement(column: str, value: Any) -> None:
    judged = classify_end(A2C, SCENARIOS["a command ends"][1])
    assert differs(judged, closed_row(judged, **{column: value}))


def test_a_judgement_fills_every_column_that_a_closed_row_needs() -> None:
    columns = columns_of(classify_end(A2C, ()))
    needed = {name for name, value in columns.items() if value is None}
    assert needed == {"exit_code", "exit_signal"}
