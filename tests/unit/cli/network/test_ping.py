"""What `tether ping` says of what it measured."""

from __future__ import annotations

from tether.attribution.vocabulary import ConnectionMethod
from tether.cli.network.ping import path, summarized
from tether.client.probe import RoundTrip

DERP, DIRECT = ConnectionMethod.DERP, ConnectionMethod.DIRECT


def test_a_summary_counts_what_came_back_and_names_the_last_path() -> None:
    pongs = [
        RoundTrip(0.004, DERP, "fra"),
        RoundTrip(None, DERP, "fra"),
        RoundTrip(0.001, DIRECT, "10.0.0.2:4"),
        RoundTrip(0.002, DIRECT, "10.0.0.2:4"),
    ]
    assert summarized("dev", pongs) == {
        "workspace": "dev",
        "sent": 4,
        "answered": 3,
        "loss": 0.25,
        "rtt_ms": {"min": 1.0, "avg": 2.333, "max": 4.0},
        "method": "direct",
        "where": "10.0.0.2:4",
        "probes": [
            {"rtt_ms": 4.0, "method": "derp", "where": "fra"},
            {"rtt_ms": None, "method": "derp", "where": "fra"},
            {"rtt_ms": 1.0, "method": "direct", "where": "10.0.0.2:4"},
            {"rtt_ms": 2.0, "method": "direct", "where": "10.0.0.2:4"},
        ],
    }


def test_what_never_came_back_has_no_times() -> None:
    summary = summarized("dev", [RoundTrip(None, ConnectionMethod.NONE, "")])
    assert (summary["answered"], summary["loss"], summary["rtt_ms"]) == (0, 1.0, None)


def test_a_path_is_named_for_people() -> None:
    assert path("direct", "[::1]:4") == "direct to [::1]:4"
    assert path("derp", "fra") == "over derp region fra"
    assert path("derp", "") == "over the relay"
    assert path("", "") == "no path"
