"""A disconnect derives what it says from its cause; in a close cell the first cause wins."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from tests.support.protocol.facts import facts
from tether.attribution import evidence as ev
from tether.attribution.causes.catalogue import CATALOGUE
from tether.attribution.disconnect import KEPT_OF_A_KIND, CloseCell, Disconnect
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import (
    Basis,
    ConnectType,
    HandshakeStage,
    Initiator,
    Party,
    Reason,
    Vantage,
)

A2C = ConnectType.AGENT_TO_CLIENT


def test_the_fields_of_a_failed_command() -> None:
    disconnect = Disconnect(
        connect_type=A2C, cause="session.exit", basis=Basis.OBSERVED, exit_code=3, detail="done"
    )
    assert disconnect.fields() == {
        "connect_type": "agent_to_client",
        "disconnect_reason": "graceful",
        "disconnect_expected": True,
        "disconnect_initiator": "client",
        "disconnect_detail": "done",
        "disconnect_cause": "session.exit",
        "disconnect_basis": "observed",
        "disconnect_actor": "",
        "exit_code": 3,
    }


def test_the_fields_of_a_signalled_command() -> None:
    disconnect = Disconnect(
        connect_type=A2C, cause="session.signal", basis=Basis.OBSERVED, exit_signal="TERM"
    )
    assert disconnect.fields() == {
        "connect_type": "agent_to_client",
        "disconnect_reason": "graceful",
        "disconnect_expected": True,
        "disconnect_initiator": "client",
        "disconnect_detail": "",
        "disconnect_cause": "session.signal",
        "disconnect_basis": "observed",
        "disconnect_actor": "",
        "exit_signal": "TERM",
    }


def test_the_fields_of_a_stopped_workspace() -> None:
    disconnect = Disconnect(
        connect_type=ConnectType.SERVER_TO_AGENT,
        cause="workspace.stopped",
        basis=Basis.DECLARED,
        actor="user:alice",
    )
    assert disconnect.fields() == {
        "connect_type": "server_to_agent",
        "disconnect_reason": "workspace_stopped",
        "disconnect_expected": True,
        "disconnect_initiator": "server",
        "disconnect_detail": "",
        "disconnect_cause": "workspace.stopped",
        "disconnect_basis": "declared",
        "disconnect_actor": "user:alice",
    }


def test_a_cause_of_a_newer_peer_keeps_its_code_and_is_unknown() -> None:
    disconnect = Disconnect(connect_type=A2C, cause="network.gremlins", basis=Basis.DECLARED)
    assert disconnect.fields() == {
        "connect_type": "agent_to_client",
        "disconnect_reason": "unknown",
        "disconnect_expected": False,
        "disconnect_initiator": "",
        "disconnect_detail": "",
        "disconnect_cause": "network.gremlins",
        "disconnect_basis": "declared",
        "disconnect_actor": "",
    }


@pytest.mark.parametrize("code", CATALOGUE)
def test_reason_initiator_and_expected_follow_from_the_cause(code: str) -> None:
    disconnect = Disconnect(connect_type=A2C, cause=code, basis=Basis.INFERRED)
    row = CATALOGUE[code]
    assert disconnect.row is row
    derived: tuple[Reason, Initiator, bool] = (
        disconnect.reason,
        disconnect.initiator,
        disconnect.expected,
    )
    assert derived == (row.reason, row.initiator, row.expected)


def test_a_new_cell_knows_nothing() -> None:
    cell = CloseCell()
    assert (cell.ended, cell.facts, cell.symptoms) == (False, (), ())


steps = st.lists(st.tuples(st.booleans(), facts), max_size=10)


@given(steps)
def test_the_first_cause_wins_and_everything_later_is_a_symptom(
    told: list[tuple[bool, Evidence]],
) -> None:
    cell = CloseCell()
    answers = []
    for ends, fact in told:
        if ends:
            answers.append(cell.offer(fact))
        else:
            cell.note(fact)
    first = next((i for i, (ends, _) in enumerate(told) if ends), len(told))
    assert cell.facts == tuple(fact for _, fact in told[: first + 1])
    assert cell.symptoms == tuple(fact for _, fact in told[first + 1 :])
    assert answers == [i == 0 for i in range(len(answers))]
    assert cell.ended == bool(answers)


def test_a_long_life_does_not_outgrow_one_message() -> None:
    """Of thousands of sessions on one connection the cell keeps the latest, and all else."""
    cell = CloseCell()
    login = ev.Authenticated(vantage=Vantage.AGENT, at=0.0, user="alice", method="publickey")
    cell.note(login)
    ends = [
        ev.SessionEnded(vantage=Vantage.AGENT, at=float(n), exit_code=n % 256, open_sessions=0)
        for n in range(5000)
    ]
    for end in ends:
        cell.note(end)
    bye = ev.SshDisconnected(
        vantage=Vantage.AGENT, at=6000.0, by=Party.CLIENT, code=11, open_sessions=0
    )
    cell.offer(bye)
    assert cell.facts == (login, *ends[-KEPT_OF_A_KIND:], bye)


def test_the_same_fact_offered_on_every_way_down_is_kept_once() -> None:
    cell = CloseCell()
    bye = ev.SshDisconnected(
        vantage=Vantage.AGENT, at=1.0, by=Party.CLIENT, code=11, open_sessions=0
    )
    assert [cell.offer(bye), cell.offer(bye)] == [True, False]
    assert (cell.facts, cell.symptoms) == ((bye,), ())


def test_what_is_worth_telling_only_at_the_end_is_asked_once_and_stands_before_it() -> None:
    cell = CloseCell()
    word = ev.HandshakeUnfinished(vantage=Vantage.AGENT, at=1.0, stage=HandshakeStage.VERSION)
    end = ev.LocalSideClosed(vantage=Vantage.CLIENT, at=2.0)
    later = ev.LocalSideClosed(vantage=Vantage.CLIENT, at=3.0)
    cell.last_words = lambda: [word]
    cell.offer(end)
    cell.offer(later)
    assert (cell.facts, cell.symptoms) == ((word, end), (later,))
