"""Every cause lies on one side, and the table has no row for what does not exist."""

from __future__ import annotations

import pytest

from tether.attribution.causes.catalogue import CATALOGUE
from tether.attribution.sides import CAUSES_OF, EXCEPTIONS, SIDES, Side, side_of


def test_every_cause_has_a_side_and_every_row_has_a_cause() -> None:
    assert {code.partition(".")[0] for code in CATALOGUE} == set(SIDES)
    assert set(EXCEPTIONS) <= set(CATALOGUE)
    assert sorted(code for codes in CAUSES_OF.values() for code in codes) == sorted(CATALOGUE)


@pytest.mark.parametrize(
    ("code", "side"),
    [
        ("server.crashed", Side.US),
        ("relay.crashed", Side.US),
        ("relay.unreachable", Side.NETWORK),
        ("agent.oom_killed", Side.WORKSPACE),
        ("agent.unreachable", Side.NETWORK),
        ("client.roamed", Side.MACHINE),
        ("client.unreachable", Side.NETWORK),
        ("network.idle_timeout", Side.NETWORK),
        ("unknown", Side.UNKNOWN),
        ("a.newer_peers", Side.UNKNOWN),
    ],
)
def test_a_side_is_where_to_look_first(code: str, side: Side) -> None:
    assert side_of(code) is side
