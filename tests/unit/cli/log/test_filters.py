"""Times are taken as the tables print them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime

import click
import pytest

from tether.cli.log.filters import when
from tether.cli.output import zone_of


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Europe/Berlin")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("15m", "15m"),
        ("3d", "3d"),
        ("2026-11-23T03:57:12Z", "2026-11-23T03:57:12+00:00"),
        ("2026-11-23T03:57:12.345+05:30", "2026-11-23T03:57:12.345000+05:30"),
        ("2026-11-23 03:57:12", "2026-11-23T03:57:12+01:00"),
        ("2026-07-23 03:57:12", "2026-07-23T03:57:12+02:00"),
        ("2026-11-23 03:57:12 CET", "2026-11-23T03:57:12+01:00"),
        ("2026-11-23 03:57:12 UTC", "2026-11-23T03:57:12+00:00"),
        ("2026-11-23 03:57", "2026-11-23T03:57:00+01:00"),
        ("2026-11-23", "2026-11-23T00:00:00+01:00"),
        ("11-23 03:57:12", "2026-11-23T03:57:12+01:00"),
        ("12-24 03:57:12", "2025-12-24T03:57:12+01:00"),
        ("03:57:12", "2026-12-01T03:57:12+01:00"),
        ("23:59", "2026-11-30T23:59:00+01:00"),
    ],
)
def test_a_time_is_taken_as_a_table_prints_it(typed: str, meant: str) -> None:
    now = datetime.fromisoformat("2026-12-01T12:00:00+01:00").astimezone()
    assert when(typed, option="--since", now=now) == meant


@pytest.mark.parametrize("typed", ["", "yesterday", "25:00", "2026-13-01", "3 days", "5", "2h 3m"])
def test_what_is_no_time_is_refused_with_an_example(typed: str) -> None:
    with pytest.raises(click.UsageError, match=r"--until: .* is no time: write it as the tables"):
        when(typed, option="--until")


def test_the_zone_is_named_and_both_where_summer_time_began() -> None:
    assert zone_of(["2026-11-23T03:57:12Z"]) == "CET"
    assert zone_of(["2026-11-23T03:57:12Z", "2026-07-23T03:57:12Z", None]) == "CEST/CET"
    assert zone_of([]) == "local"
