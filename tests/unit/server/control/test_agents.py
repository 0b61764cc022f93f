"""Which agents are too old."""

from __future__ import annotations

import pytest

from tether.server.control.agents import is_older
from tether.server.settings import BadSetting, ServerSettings


@pytest.mark.parametrize(
    ("version", "minimum", "older"),
    [
        ("1.2.3", "", False),
        ("0.1.0", "0.1.0", False),
        ("0.1", "0.1.0", False),
        ("0.1.0", "0.1", False),
        ("0.9.9", "0.10", True),
        ("1.0rc1", "1.0", False),
        ("2", "1.99.99", False),
        ("unheard-of", "0.0", True),
        ("", "0.0", True),
    ],
)
def test_versions_are_compared_as_numbers(version: str, minimum: str, older: bool) -> None:
    assert is_older(version, minimum) is older


def test_a_minimum_that_is_no_version_is_a_bad_setting(tmp_path: object) -> None:
    with pytest.raises(BadSetting, match="'latest' is no version"):
        ServerSettings(data_dir=tmp_path, min_agent_version="latest")  # type: ignore[arg-type]
