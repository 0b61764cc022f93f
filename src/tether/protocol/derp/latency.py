"""Which DERP region is near: the one rule of agents, clients and server, and when to measure anew.

Law: no I/O, no clock, no randomness (the caller passes the jitter). Distances are round trips in
seconds. A region is left only for one that is clearly nearer, so that two that are about as far do not
take turns; among such the map's order decides, which has the embedded relay last.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tether.protocol.messages.derp import EMBEDDED_REGION, MAX_REGIONS, DerpMap, NodeStatus

CLEARLY_S, CLEARLY = 0.010, 2 / 3
"""Another region is clearly nearer if it is nearer by this, and by a third."""

AS_NEAR_S = 0.005
"""The embedded relay, which shares its process with the control plane, is left for one as near."""

FURTHEST_S = 60.0
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
    """Where somebody would like to be met ("" where they do not know), and how far the regions are."""

    home: str = ""
    distances: Mapping[str, float] = field(default_factory=dict)


NOT_KNOWN = RegionLatency()


def clearly_nearer(one: float, other: float) -> bool:
    """Whether it is worth it to move from `other` to `one`."""
    return other - one >= CLEARLY_S and one <= other * CLEARLY


def choose(distances: Mapping[str, float], order: Iterable[str], kept: str = "") -> str:
    """The region to use; "" where no distance is known.

    Args:
        distances: of the regions that were reached.
        order: the regions that can be used, the one to prefer among equals first.
        kept: the region that was chosen before, or is asked for.
    """
    known = {region: distances[region] for region in order if region in distances}
    if not known:
        return ""
    nearest = min(known.values())
    stays = kept in known and not clearly_nearer(nearest, known[kept])
    if stays and kept == EMBEDDED_REGION:
        near = known[kept] + AS_NEAR_S
        stays = all(distance > near for region, distance in known.items() if region != kept)
    if stays:
        return kept
    return next(region for region, far in known.items() if not clearly_nearer(nearest, far))


def sums(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    """How far two are from one another through each region that both have told of."""
    return {
        region: one[region] + other[region]
        for region in one
        if region in other and is_distance(one[region]) and is_distance(other[region])
    }


def usable(derp_map: DerpMap) -> dict[str, tuple[str, ...]]:
    """What can be measured and used: `Nodes`, in the map's order."""
    found = {
        region.name: tuple(node.url for node in region.nodes if node.status == NodeStatus.OK)
        for region in derp_map.regions[:MAX_REGIONS]
    }
    return {region: urls for region, urls in found.items() if urls}


def is_distance(distance: float) -> bool:
    """Whether this is one, and not only a number."""
    return math.isfinite(distance) and 0 <= distance <= FURTHEST_S


class HomeRegionSelector:
    """Keeps a home region. `tick` at `deadline()`; where a method says so, `nearness` has changed."""

    def __init__(self) -> None:
        self._nodes: dict[str, tuple[str, ...]] = {}
        self._distances: dict[str, float] = {}
        self._home = ""
        self._due: float | None = None
        self._asked: dict[str, tuple[str, ...]] | None = None

    @property
    def nearness(self) -> RegionLatency:
        """What to tell others."""
        return RegionLatency(self._home, dict(self._distances))

    def deadline(self) -> float | None:
        """When (monotonic seconds) to call `tick`; None while there is nothing to wait for."""
        return self._due if self._asked is None else None

    def map_came(self, derp_map: DerpMap, now: float, jitter: float) -> bool:
        """The newest map. A home that is off it is left at once, for the best that is known."""
        before, self._nodes = self._nodes, usable(derp_map)
        known = self._distances
        self._distances = {
            region: far
            for region, far in known.items()
            if self._nodes.get(region, ())[:1] == before.get(region, ())[:1]
        }
        if any(before.get(region, ())[:1] != urls[:1] for region, urls in self._nodes.items()):
            soon = now + (SPREAD_S * jitter if before else 0.0)
            self._due = soon if self._due is None else min(self._due, soon)
        return self._settle() or self._distances != known

    def tick(self, now: float) -> Nodes | None:
        """What to measure now, if anything; then call `measured`."""
        due = self.deadline()
        if due is None or now < due:
            return None
        self._due, self._asked = None, self._nodes or None
        return self._asked

    def measured(self, found: Mapping[str, float], now: float, jitter: float) -> bool:
        """How far the regions were that were reached."""
        asked, self._asked = self._asked or {}, None
        # what has come onto the map meanwhile was not asked for, and what went is of no use
        still = {
            region: far
            for region, far in found.items()
            if asked.get(region, ())[:1] == self._nodes.get(region, ())[:1]
        }
        again = now + (EVERY_S * (1 + jitter / 10) if found else AGAIN_S)
        self._due = again if self._due is None else min(self._due, again)
        if not found:  # that tells of this machine, and of no region
            return False
        known, self._distances = self._distances, still
        return self._settle() or self._distances != known

    def _settle(self) -> bool:
        before = self._home
        self._home = choose(self._distances, self._nodes, before)
        return self._home != before
