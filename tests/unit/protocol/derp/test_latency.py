"""Which DERP region is near: when one is left for another, and when they are measured."""

from __future__ import annotations

import math

import pytest

from tether.protocol.derp.latency import (
    AGAIN_S,
    EVERY_S,
    SPREAD_S,
    HomeRegionSelector,
    RegionLatency,
    choose,
    joint_latency_s,
    usable,
)
from tether.protocol.messages.derp import DerpMap, DerpNode, DerpRegion


def a_map(*names: str, draining: tuple[str, ...] = (), url: str = "") -> DerpMap:
    def node(name: str) -> DerpNode:
        status = "draining" if name in draining else "ok"
        return DerpNode(url=url or f"ws://{name}/derp", status=status)

    return DerpMap(regions=[DerpRegion(name=name, nodes=[node(name)]) for name in names])


# -- the rule --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("latency_s", "kept", "chosen"),
    [
        ({}, "", ""),
        ({"elsewhere": 0.001}, "", ""),
        ({"ams": 0.050, "fra": 0.020}, "", "fra"),
        ({"ams": 0.0012, "fra": 0.0004}, "", "ams"),  # as near: the map's order decides
        ({"ams": 0.0012, "fra": 0.0004}, "fra", "fra"),
        ({"ams": 0.030, "fra": 0.019}, "ams", "fra"),
        ({"ams": 0.030, "fra": 0.021}, "ams", "ams"),  # not by a third
        ({"ams": 0.012, "fra": 0.004}, "ams", "ams"),  # not by ten milliseconds
        ({"fra": 0.090}, "ams", "fra"),  # what was kept is out of reach
    ],
)
def test_a_region_is_left_only_for_one_that_is_clearly_nearer(
    latency_s: dict[str, float], kept: str, chosen: str
) -> None:
    assert choose(latency_s, ["ams", "fra", "embedded"], kept) == chosen


@pytest.mark.parametrize(
    ("fra", "embedded", "kept", "chosen"),
    [
        (0.001, 0.001, "", "fra"),
        (0.004, 0.001, "embedded", "fra"),
        (0.040, 0.001, "", "embedded"),
        (0.040, 0.032, "embedded", "embedded"),  # not as near: it stays
        (0.040, 0.032, "fra", "fra"),
        (0.035, 0.032, "embedded", "fra"),
    ],
)
def test_the_embedded_relay_is_home_only_where_it_is_clearly_the_nearest(
    fra: float, embedded: float, kept: str, chosen: str
) -> None:
    latency_s = {"fra": fra, "embedded": embedded}
    assert choose(latency_s, ["fra", "embedded"], kept) == chosen


def test_a_home_does_not_flap_between_two_that_are_about_as_far() -> None:
    home, seen = "", []
    for ams, fra in (
        (30, 29),
        (31, 22),
        (29, 33),
        (24, 30),
        (33, 23),
        (40, 20),
        (26, 24),
        (24, 26),
    ):
        home = choose({"ams": ams / 1000, "fra": fra / 1000}, ["ams", "fra"], home)
        seen.append(home)
    assert seen == ["ams"] * 4 + ["ams"] + ["fra"] * 3


def test_two_are_as_far_as_both_ways_together() -> None:
    mine = {"ams": 0.25, "fra": 0.5, "nyc": 0.1, "bad": -1.0, "odd": math.nan, "far": 100.0}
    its = {"ams": 0.5, "fra": 0.125, "bad": 0.1, "odd": 0.1, "far": 0.1}
    assert joint_latency_s(mine, its) == {"ams": 0.75, "fra": 0.625}
    assert joint_latency_s(its, {**mine, "ams": math.inf}) == {"fra": 0.625}


def test_only_relays_that_take_carriers_can_be_used() -> None:
    told = a_map("ams", "fra", draining=("ams",))
    assert usable(told) == {"fra": ("ws://fra/derp",)}


# -- the machine -----------------------------------------------------------------------------------


def found_home(*names: str, **latency_s: float) -> HomeRegionSelector:
    """One that has measured these regions at 0 s."""
    finder = HomeRegionSelector()
    finder.map_came(a_map(*names), 0.0, 0.5)
    assert finder.tick(0.0) == usable(a_map(*names))
    finder.measured(latency_s, 0.0, 0.0)
    return finder


def test_the_first_map_is_measured_at_once_and_then_periodically() -> None:
    finder = HomeRegionSelector()
    assert (finder.deadline(), finder.region_latency) == (None, RegionLatency())
    assert not finder.map_came(a_map("ams", "fra"), 7.0, 0.9)
    assert finder.deadline() == 7.0
    assert finder.tick(6.9) is None
    assert finder.tick(7.0) == {"ams": ("ws://ams/derp",), "fra": ("ws://fra/derp",)}
    assert (finder.deadline(), finder.tick(8.0)) == (None, None)  # one at a time
    assert finder.measured({"ams": 0.04, "fra": 0.01}, 8.0, 0.5)
    assert finder.region_latency == RegionLatency("fra", {"ams": 0.04, "fra": 0.01})
    assert finder.deadline() == 8.0 + EVERY_S * 1.05
    assert finder.tick(400.0) is not None
    assert not finder.measured({"ams": 0.04, "fra": 0.01}, 401.0, 0.5)


def test_a_changed_map_is_measured_soon_but_not_by_all_at_once() -> None:
    finder = found_home("ams", ams=0.01)
    assert not finder.map_came(a_map("ams"), 10.0, 0.5)
    assert finder.deadline() == EVERY_S  # nothing new is on it
    finder.map_came(a_map("ams", "fra"), 10.0, 0.5)
    assert finder.deadline() == 10.0 + SPREAD_S / 2
    finder.map_came(a_map("ams", "fra", "nyc"), 10.5, 0.9)
    assert finder.deadline() == 10.0 + SPREAD_S / 2  # another change does not put it off


def test_a_home_that_is_taken_off_the_map_is_left_at_once() -> None:
    finder = found_home("ams", "fra", "nyc", ams=0.01, fra=0.05, nyc=0.09)
    assert finder.map_came(a_map("fra", "nyc"), 10.0, 0.5)
    assert finder.region_latency == RegionLatency("fra", {"fra": 0.05, "nyc": 0.09})
    assert finder.deadline() == EVERY_S
    assert finder.map_came(a_map("fra", "nyc", draining=("fra",)), 11.0, 0.5)
    assert finder.region_latency.home == "nyc"
    assert finder.map_came(a_map(), 12.0, 0.5)
    assert finder.region_latency == RegionLatency()
    assert finder.tick(EVERY_S) is None  # there is nothing to measure
    assert finder.deadline() is None


def test_a_relay_at_another_url_is_another_one() -> None:
    finder = found_home("ams", "fra", ams=0.01, fra=0.05)
    elsewhere = DerpMap(regions=[*a_map("ams", url="ws://other").regions, *a_map("fra").regions])
    assert finder.map_came(elsewhere, 10.0, 0.0)
    assert finder.region_latency == RegionLatency("fra", {"fra": 0.05})
    assert finder.deadline() == 10.0


def test_what_came_or_went_while_it_was_measured_is_not_taken_for_measured() -> None:
    finder = HomeRegionSelector()
    finder.map_came(a_map("ams", "fra"), 0.0, 0.0)
    finder.tick(0.0)
    finder.map_came(a_map("fra", "nyc"), 1.0, 0.5)
    assert finder.measured({"ams": 0.001, "fra": 0.05}, 2.0, 0.0)
    assert finder.region_latency == RegionLatency("fra", {"fra": 0.05})
    assert finder.deadline() == 1.0 + SPREAD_S / 2


def test_a_home_that_is_not_reached_any_more_is_left() -> None:
    finder = found_home("ams", "fra", ams=0.01, fra=0.05)
    finder.tick(EVERY_S)
    assert finder.measured({"fra": 0.05}, EVERY_S, 0.0)
    assert finder.region_latency == RegionLatency("fra", {"fra": 0.05})


def test_where_nothing_is_reached_nothing_is_learned_and_it_is_tried_again() -> None:
    finder = found_home("ams", "fra", ams=0.01, fra=0.05)
    before = finder.region_latency
    finder.tick(EVERY_S)
    assert not finder.measured({}, 400.0, 0.0)
    assert finder.region_latency == before
    assert finder.deadline() == 400.0 + AGAIN_S
    assert not finder.measured({}, 500.0, 0.0)  # nobody asked
