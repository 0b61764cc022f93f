"""The catalogue: every row is whole, agrees with the contract, and is produced by somebody."""

from __future__ import annotations

import string
from collections import Counter

import pytest

from tether.attribution.causes.catalogue import (
    ACCESS_REFUSALS,
    CATALOGUE,
    INTERNAL_ERRORS,
    POLICY_REFUSALS,
    PROTOCOL_ERRORS,
    SLOW_READERS,
    WORKSPACE_STOPS,
    cause_of,
    codes_where,
)
from tether.attribution.causes.cause import KERNEL_OOM, MIDDLEBOX, Cause
from tether.attribution.causes.codes import UNKNOWN
from tether.attribution.vocabulary import (
    AccessRefusal,
    Correction,
    Element,
    Initiator,
    Party,
    Policy,
    Reason,
)

ROWS = list(CATALOGUE.values())
PLACEHOLDERS = {"exit_code", "exit_signal", "actor", "workspace"}


def ids(row: Cause) -> str:
    return row.code


def test_every_code_is_one_word_of_a_party_or_a_place_then_what_happened() -> None:
    heads = Counter(code.partition(".")[0] for code in CATALOGUE if code != UNKNOWN)
    assert set(heads) == {
        "session",
        "client",
        "agent",
        "server",
        "relay",
        "coordination",
        "network",
        "workspace",
        "auth",
        "policy",
        "ide",
    }
    assert all(code == row.code for code, row in CATALOGUE.items())
    assert all(set(code) <= {*string.ascii_lowercase, ".", "_"} for code in CATALOGUE)


def test_unknown_is_never_expected_and_blames_nobody() -> None:
    row = CATALOGUE[UNKNOWN]
    assert (row.reason, row.initiator, row.expected) == (Reason.UNKNOWN, Initiator.UNTOLD, False)
    assert [other.code for other in ROWS if other.reason is Reason.UNKNOWN] == [UNKNOWN]


def test_a_stopped_workspace_was_stopped_by_the_server() -> None:
    stopped = [row for row in ROWS if row.reason is Reason.WORKSPACE_STOPPED]
    assert {row.code for row in stopped} == set(WORKSPACE_STOPS.values())
    assert {(row.initiator, row.expected) for row in stopped} == {(Initiator.SERVER, True)}


def test_only_unknown_leaves_the_initiator_untold() -> None:
    assert [row.code for row in ROWS if row.initiator is Initiator.UNTOLD] == [UNKNOWN]


def test_a_failing_network_is_never_expected() -> None:
    by_network = [row for row in ROWS if row.initiator is Initiator.NETWORK]
    assert by_network
    assert not any(row.expected for row in by_network)


NEVER_EXPECTED = {
    Reason.NETWORK_ERROR,
    Reason.PROTOCOL_ERROR,
    Reason.CONTROL_PLANE_LOST,
    Reason.UNKNOWN,
    Reason.RESOURCE_EXHAUSTED,
    Reason.PROCESS_CRASHED,
    Reason.PEER_UNRESPONSIVE,
}
ALWAYS_EXPECTED = {Reason.GRACEFUL, Reason.CLIENT_CLOSED, Reason.WORKSPACE_STOPPED}
CANNOT_GET_IN = {"client.host_key_refused"}
"""Reviewed: a client that closes by itself, and whose user has to do something about it."""


@pytest.mark.parametrize("row", ROWS, ids=ids)
def test_expected_agrees_with_the_reason(row: Cause) -> None:
    assert not (row.expected and row.reason in NEVER_EXPECTED)
    assert row.expected or row.reason not in ALWAYS_EXPECTED or row.code in CANNOT_GET_IN


@pytest.mark.parametrize("row", ROWS, ids=ids)
def test_its_words_are_sentences_with_known_placeholders(row: Cause) -> None:
    for text in (row.sentence, row.advice):
        names = {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}
        assert names <= PLACEHOLDERS
        assert text.endswith(".")
        assert text[0].isupper()
        assert text == " ".join(text.split())
    assert row.sentence.count(". ") == 0, "one sentence, so that it fits on one line of a terminal"
    assert not row.title.endswith(".")
    assert not set("{}") & set(row.title)


@pytest.mark.parametrize("row", ROWS, ids=ids)
def test_its_public_word_follows_from_its_reason(row: Cause) -> None:
    public = row.coarse_reason
    assert public in {row.reason, Reason.SERVER_SHUTDOWN, Reason.NETWORK_ERROR}


ALONE = {
    # what one client did, one agent sent, or one user's credential, command or IDE brought about
    *("client.closed", "client.handshake_timeout", "client.protocol_error", "client.ssh_killed"),
    *("client.no_common_algorithm", "client.host_key_refused"),
    *("agent.protocol_error", "agent.superseded", "server.protocol_error"),
    # what says nothing of anybody else's connection
    *(row.code for row in ROWS if row.code.startswith(("auth.", "coordination.", "policy."))),
    *(row.code for row in ROWS if row.code.startswith(("ide.", "session."))),
    UNKNOWN,
}
"""Reviewed: ends of these causes are no part of an incident."""


def test_every_other_cause_says_what_its_ends_share() -> None:
    assert {row.code for row in ROWS if row.element is None} == ALONE


def test_what_the_kernel_or_a_middlebox_did_was_nobody_elses_doing() -> None:
    assert {row.code for row in ROWS if row.actor == KERNEL_OOM} == {
        row.code for row in ROWS if row.code.endswith("oom_killed")
    }
    middlebox = {row for row in ROWS if row.actor == MIDDLEBOX}
    assert {row.initiator for row in middlebox} == {Initiator.NETWORK}
    assert {row.actor for row in ROWS} == {"", KERNEL_OOM, MIDDLEBOX}


def test_a_cause_that_was_planned_is_corrected_by_an_intent_at_most() -> None:
    for row in ROWS:
        if row.expected:
            assert set(row.corrected_by) <= {Correction.INTENT}


def test_what_a_machine_or_a_return_corrects_is_about_an_agent_or_a_client() -> None:
    """The two queries for it ask of an agent's machine, and of the link of either."""
    by = {
        kind: {row.element for row in ROWS if kind in row.corrected_by}
        for kind in (Correction.SAME_HOST, Correction.SAME_RELAY, Correction.RETURN)
    }
    assert by == {
        Correction.SAME_HOST: {Element.AGENT},
        Correction.SAME_RELAY: {Element.RELAY},
        Correction.RETURN: {Element.AGENT, Element.CLIENT},
    }


def test_what_holds_for_tunnels_names_whose_network_it_is() -> None:
    assert codes_where(lambda row: row.holds_for_tunnels) == (
        "network.client_upload_lost",
        "network.client_download_lost",
        "network.agent_upload_lost",
        "network.agent_download_lost",
    )
    elements = [row.element for row in ROWS if row.holds_for_tunnels]
    assert elements == [Element.CLIENT, Element.CLIENT, Element.AGENT, Element.AGENT]


def test_titles_are_distinct() -> None:
    assert [title for title, n in Counter(row.title for row in ROWS).items() if n > 1] == []


def test_an_unknown_code_reads_as_the_unknown_row() -> None:
    assert cause_of("network.gremlins") is CATALOGUE[UNKNOWN]
    assert cause_of("session.exit") is CATALOGUE["session.exit"]


def test_the_tables_over_causes_are_total() -> None:
    assert set(PROTOCOL_ERRORS) == set(Party)
    assert set(ACCESS_REFUSALS) == set(AccessRefusal)
    assert set(WORKSPACE_STOPS) == {"user", "autostop", "deleted", "evicted"}
    assert set(POLICY_REFUSALS) == set(Policy)
    assert set(INTERNAL_ERRORS) == set(SLOW_READERS) == set(Party)
    named = {*PROTOCOL_ERRORS.values(), *ACCESS_REFUSALS.values(), *WORKSPACE_STOPS.values()}
    named |= {*POLICY_REFUSALS.values(), *INTERNAL_ERRORS.values(), *SLOW_READERS.values()}
    assert named <= set(CATALOGUE)
