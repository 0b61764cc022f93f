"""Times at the edge of the API."""

from __future__ import annotations

import pytest

from tests.support.clock import EPOCH
from tether.server.times import iso, iso_or_none, parse_when


def test_unix_seconds_become_utc_text_with_milliseconds() -> None:
    assert [iso(EPOCH), iso(EPOCH + 0.9999), iso(0), iso_or_none(None), iso_or_none(0)] == [
        "2027-01-15T08:00:00.000Z",
        "2027-01-15T08:00:00.999Z",
        "1970-01-01T00:00:00.000Z",
        None,
        "1970-01-01T00:00:00.000Z",
    ]


@pytest.mark.parametrize(
    ("text", "back"),
    [("0s", 0), ("90s", 90), ("15m", 900), ("2h", 7200), ("3d", 259_200), ("1w", 604_800)],
)
def test_a_span_counts_back_from_now(text: str, back: int) -> None:
    assert parse_when(text, EPOCH) == EPOCH - back


@pytest.mark.parametrize(
    "text",
    [
        "2027-01-15T08:00:00Z",
        "2027-01-15T08:00:00.000Z",
        "2027-01-15T10:00:00+02:00",
        "2027-01-15T10:00:00 02:00",  # a plus sign in a query that nobody quoted
        "2027-01-15 08:00:00Z",
    ],
)
def test_a_moment_is_itself_in_any_zone(text: str) -> None:
    assert parse_when(text, 0) == EPOCH


@pytest.mark.parametrize(
    "text", ["", "yesterday", "15", "m", "-15m", "1.5h", "2027-01-15T08:00:00", "2027-13-01T00:00Z"]
)
def test_what_is_no_time_is_told_what_a_time_is(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no time: write 2026-11-23T03:57:12Z, or a span"):
        parse_when(text, EPOCH)
