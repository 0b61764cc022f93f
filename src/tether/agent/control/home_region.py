"""The agent's home region: measures the DERP regions, and says when it has another one.

Law: performs what `protocol.derp.latency` decides; at most one measurement runs at a time. Nothing waits
for it: an agent whose regions cannot be reached has no home, and works.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from tether.log import get_logger
from tether.net.clock import Clock
from tether.net.derp.probe import measure
from tether.net.tasks import Tasks
from tether.protocol.derp.latency import HomeRegionSelector, Nodes, RegionLatency
from tether.protocol.messages.derp import DerpMap

_log = get_logger("coordination")


class HomeRegion:
    """Measures the regions and says which one is home. Call `stop` last."""

    def __init__(
        self,
        clock: Clock,
        *,
        on_change: Callable[[], None],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`on_change` is told that `region_latency` is another one."""
        self._clock = clock
        self._on_change = on_change
        self._jitter = jitter
        self._finder = HomeRegionSelector()
        self._tasks = Tasks("home-region")
        self._timer: asyncio.TimerHandle | None = None
        self._measuring: asyncio.Task[None] | None = None

    @property
    def region_latency(self) -> RegionLatency:
        """The home region, and how far each region is."""
        return self._finder.region_latency

    def map_came(self, derp_map: DerpMap) -> None:
        """The server has sent its newest map."""
        before = self.region_latency.home
        changed = self._finder.map_came(derp_map, self._clock.now().mono, self._jitter())
        self._settled(before, changed=changed)

    def stop(self) -> None:
        """Measure no more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._measuring is not None:
            self._measuring.cancel()

    def _tick(self) -> None:
        nodes = self._finder.tick(self._clock.now().mono)
        if nodes is not None:
            self._measuring = self._tasks.spawn(self._measure(nodes), "measure")
        self._arm()

    async def _measure(self, nodes: Nodes) -> None:
        before = self.region_latency.home
        found = await measure(nodes)
        latency_s = {m.region: m.latency_s for m in found if m.latency_s is not None}
        _log.debug(
            "regions measured",
            latency_ms={region: round(1000 * one, 2) for region, one in latency_s.items()},
            unreached=[m.region for m in found if m.latency_s is None],
        )
        changed = self._finder.measured(latency_s, self._clock.now().mono, self._jitter())
        self._settled(before, changed=changed)

    def _settled(self, before: str, *, changed: bool) -> None:
        home = self.region_latency.home
        if home != before:
            _log.info("home region changed", region=home, before=before)
        if changed:
            self._on_change()
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self._finder.deadline()
        if deadline is not None:
            wait_s = max(0.0, deadline - self._clock.now().mono)
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._tick)
