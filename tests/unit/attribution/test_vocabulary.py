"""The words: closed sets, total tables, and no word that says two things."""

from __future__ import annotations

from enum import StrEnum

import pytest

from tether.attribution.vocabulary import (
    COARSE,
    PUBLIC_REASONS,
    TITLES,
    Basis,
    ConnectionMethod,
    ConnectionType,
    ConnectType,
    Initiator,
    Reason,
)

CONTRACT: dict[type[StrEnum], list[str]] = {
    ConnectType: ["server_to_agent", "agent_to_client", "client_to_server"],
    Reason: [
        "graceful",
        "client_closed",
        "server_shutdown",
        "network_error",
        "protocol_error",
        "workspace_stopped",
        "control_plane_lost",
        "unknown",
        "idle_timeout",
        "session_expired",
        "access_revoked",
        "superseded",
        "resource_exhausted",
        "process_crashed",
        "peer_unresponsive",
        "client_suspended",
        "path_changed",
    ],
    Initiator: ["client", "agent", "server", "network", ""],
    Basis: ["declared", "observed", "inferred"],
    ConnectionMethod: ["direct", "derp", ""],
    ConnectionType: [
        "ssh",
        "vscode",
        "jetbrains",
        "reconnecting_pty",
        "port_forward",
        "sftp",
        "tunnel",
        "control",
    ],
}
"""What readers of logs and of the API rely on, spelled out: changing an enum must change this."""

WORDS_OF_THE_CONTRACT = {
    Reason.CLIENT_CLOSED: {"client"},
    Reason.SERVER_SHUTDOWN: {"server"},
    Reason.NETWORK_ERROR: {"network"},
    Reason.CONTROL_PLANE_LOST: {"control"},
    Reason.SESSION_EXPIRED: {"session"},
    Reason.CLIENT_SUSPENDED: {"client"},
}
"""Reasons that name a party or a layer, because readers already know them by that name. No more."""


@pytest.mark.parametrize("words", CONTRACT)
def test_the_words_are_those_of_the_contract(words: type[StrEnum]) -> None:
    assert [str(word) for word in words] == CONTRACT[words]


def test_the_first_eight_reasons_are_the_public_vocabulary() -> None:
    assert {str(reason) for reason in PUBLIC_REASONS} == set(CONTRACT[Reason][:8])


def test_every_reason_has_a_public_word() -> None:
    assert set(COARSE) == set(Reason)
    assert set(COARSE.values()) <= PUBLIC_REASONS
    assert {reason: COARSE[reason] for reason in PUBLIC_REASONS} == {r: r for r in PUBLIC_REASONS}


def test_no_refined_reason_becomes_graceful_or_unknown_for_old_readers() -> None:
    refined = set(Reason) - PUBLIC_REASONS
    assert not {COARSE[reason] for reason in refined} & {Reason.GRACEFUL, Reason.UNKNOWN}


def test_every_reason_has_a_title_of_its_own() -> None:
    assert set(TITLES) == set(Reason)
    assert len(set(TITLES.values())) == len(Reason)


def test_a_reason_names_neither_party_nor_layer() -> None:
    parties = {str(initiator) for initiator in Initiator} - {""}
    layers = {"carrier", "tunnel", "ssh", "session", "forward", "control", "relay"}
    found = {
        reason: words for reason in Reason if (words := {*reason.split("_")} & (parties | layers))
    }
    assert found == WORDS_OF_THE_CONTRACT


@pytest.mark.parametrize("reason", Reason)
def test_a_known_word_is_read_as_itself(reason: Reason) -> None:
    assert Reason.read(str(reason)) is reason


@pytest.mark.parametrize("word", ["", "gremlins", "GRACEFUL", "graceful "])
def test_a_word_of_a_newer_peer_is_read_as_unknown(word: str) -> None:
    assert Reason.read(word) is Reason.UNKNOWN
