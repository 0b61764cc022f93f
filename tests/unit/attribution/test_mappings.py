"""The catalogue in the words of others: total, and never success for what went wrong."""

from __future__ import annotations

import pytest

from tether.attribution.causes.catalogue import CATALOGUE
from tether.attribution.causes.cause import Cause
from tether.attribution.mappings import (
    OCSF_CLOSE,
    OCSF_FAIL,
    OCSF_FAILURE,
    OCSF_REFUSE,
    OCSF_RESET,
    OCSF_SUCCESS,
    Outside,
    outside,
)
from tether.attribution.vocabulary import Reason

SENDABLE = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014}
"""WebSocket codes that may be on the wire: 1004, 1005, 1006 and 1015 may not."""


@pytest.mark.parametrize("row", CATALOGUE.values(), ids=lambda row: row.code)
def test_every_cause_has_a_word_everywhere(row: Cause) -> None:
    words = outside(row)
    assert words.websocket in SENDABLE
    assert 1 <= words.ssh <= 15
    assert words.ocsf_activity_id in {OCSF_CLOSE, OCSF_RESET, OCSF_FAIL, OCSF_REFUSE}
    assert (words.error_type is None) == row.expected
    assert words.ocsf_status_id == (OCSF_SUCCESS if row.expected else OCSF_FAILURE)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("session.exit", Outside(None, OCSF_CLOSE, OCSF_SUCCESS, 1000, 11)),
        ("agent.oom_killed", Outside("resource_exhausted", OCSF_FAIL, OCSF_FAILURE, 1013, 12)),
        (
            "network.middlebox_reset",
            Outside("network_error", OCSF_RESET, OCSF_FAILURE, 1014, 10),
        ),
        (
            "auth.certificate_refused",
            Outside("access_revoked", OCSF_REFUSE, OCSF_FAILURE, 1008, 15),
        ),
        ("unknown", Outside("unknown", OCSF_FAIL, OCSF_FAILURE, 1011, 10)),
    ],
)
def test_a_cause_in_the_words_of_others(code: str, words: Outside) -> None:
    assert outside(CATALOGUE[code]) == words


def test_only_what_went_well_closes_with_1000() -> None:
    closed_well = {row.reason for row in CATALOGUE.values() if outside(row).websocket == 1000}
    assert closed_well == {Reason.GRACEFUL, Reason.CLIENT_CLOSED}
