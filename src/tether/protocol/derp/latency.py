"""Which DERP region to use: the one rule of agents, clients and server, and when to measure anew.

Law: no I/O, no clock, no randomness (the caller passes the jitter). A latency is a round trip in
seconds. A region is left only for one that is clearly nearer, so that two that are nearly alike do not
take turns; among such the map's order decides, which has the embedded relay last.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tether.protocol.messages.derp import EMBEDDED_REGION, MAX_REGIONS, DerpMap, NodeStatus

CLEARLY_S, CLEARLY = 0.010, 2 / 3
"""Another region is clearly nearer if it is nearer by this, and by a third."""

ALIKE_S = 0.005
"""The embedded relay, which shares its process with the control plane, is left for a region that is as
near, or farther by no more than this."""

MAX_LATENCY_S = 60.0
"""A longer round trip is none."""

EVERY_S = 300.0
"""How often the regions are measured: from this to a tenth more."""

AGAIN_S = 30.0
"""How long after nothing was reached at all."""

SPREAD_S = 2.0
"""A new map reaches everybody at once: they measure within this time."""

Nodes = Mapping[str, tuple[str, ...]]
"""The URLs of each region's relays that take new carriers, the one to use first."""


@dataclass(frozen=True, slots=True)
class RegionLatency:
    """Which region somebody would like to be met in, and what they have measured."""

    home: str = ""
    """"" where they do not know."""
    latency_s: Mapping[str, float] = field(default_factory=dict)
    """Of the regions that they have reached."""


NOT_MEASURED = RegionLatency()


def clearly_nearer(one_s: float, other_s: float) -> bool:
    """Whether it is worth it to move from the region with `other_s` to the one with `one_s`."""
    return other_s - one_s >= CLEARLY_S and one_s <= other_s * CLEARLY


def choose(latency_s: Mapping[str, float], order: Iterable[str], kept: str = "") -> str:
    """The region to use; "" where no latency is known.

    Args:
        latency_s: of the regions that were reached.
        order: the regions that can be used, the one to prefer among equals first.
        kept: the region that was chosen before, or is asked for.
    """
    known = {region: latency_s[region] for region in order if region in latency_s}
    if not known:
        return ""
    nearest_s = min(known.values())
    stays = kept in known and not clearly_nearer(nearest_s, known[kept])
    if stays and kept == EMBEDDED_REGION:
        limit_s = known[kept] + ALIKE_S
        stays = all(one_s > limit_s for region, one_s in known.items() if region != kept)
    if stays:
        return kept
    return next(region for region, one_s in known.items() if not clearly_nearer(nearest_s, one_s))


def joint_latency_s(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    """The round trip between two parties through each region that both have reached."""
    return {
        region: one[region] + other[region]
        for region in one
        if region in other and is_latency(one[region]) and is_latency(other[region])
    }


def usable(derp_map: DerpMap) -> dict[str, tuple[str, ...]]:
    """What can be measured and used: `Nodes`, in the map's order."""
    found = {
        region.name: tuple(node.url for node in region.nodes if node.status == NodeStatus.OK)
        for region in derp_map.regions[:MAX_REGIONS]
    }
    return {region: urls for region, urls in found.items() if urls}


def is_latency(seconds: float) -> bool:
    """Whether a number that somebody told can be a latency."""
    return math.isfinite(seconds) and 0 <= seconds <= MAX_LATENCY_S


class HomeRegionSelector:
    """Keeps a home region. Call `tick` at `deadline()`. Methods say whether `region_latency` changed."""

    def __init__(self) -> None:
        self._nodes: dict[str, tuple[str, ...]] = {}  # of the newest map
        self._latency_s: dict[str, float] = {}
        self._home = ""
        self._due: float | None = None  # when to measure next
        self._asked: dict[str, tuple[str, ...]] | None = None  # what is being measured

    @property
    def region_latency(self) -> RegionLatency:
        """What to tell others."""
        return RegionLatency(self._home, dict(self._latency_s))

    def deadline(self) -> float | None:
        """When (monotonic seconds) to call `tick`; None while there is nothing to wait for."""
        return self._due if self._asked is None else None

    def map_came(self, derp_map: DerpMap, now: float, jitter: float) -> bool:
        """This is the newest map. A home that is not on it is left at once, for the best one known."""
        before, self._nodes = self._nodes, usable(derp_map)
        known = self._latency_s
        self._latency_s = {
            region: seconds
            for region, seconds in known.items()
            if self._nodes.get(region, ())[:1] == before.get(region, ())[:1]
        }
        if any(before.get(region, ())[:1] != urls[:1] for region, urls in self._nodes.items()):
            soon = now + (SPREAD_S * jitter if before else 0.0)
            self._due = soon if self._due is None else min(self._due, soon)
        return self._settle() or self._latency_s != known

    def tick(self, now: float) -> Nodes | None:
        """What to measure now, if anything; then call `measured`."""
        due = self.deadline()
        if due is None or now < due:
            return None
        self._due = None
        self._asked = self._nodes or None
        return self._asked

    def measured(self, found: Mapping[str, float], now: float, jitter: float) -> bool:
        """The regions that `tick` named were measured: `found` has the seconds of those reached."""
        asked, self._asked = self._asked or {}, None
        # What came onto the map meanwhile was not measured, and what went is of no use.
        still = {
            region: seconds
            for region, seconds in found.items()
            if asked.get(region, ())[:1] == self._nodes.get(region, ())[:1]
        }
        again = now + (EVERY_S * (1 + jitter / 10) if found else AGAIN_S)
        self._due = again if self._due is None else min(self._due, again)
        if not found:  # which is a failure of this machine, and not of all regions
            return False
        known, self._latency_s = self._latency_s, still
        return self._settle() or self._latency_s != known

    def _settle(self) -> bool:
        before = self._home
        self._home = choose(self._latency_s, self._nodes, before)
        return self._home != before
