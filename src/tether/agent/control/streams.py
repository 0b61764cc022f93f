"""The logical streams of the agent's control link, coordination and DERP map: one line for each end.

Law: a stream that was opened ends with exactly one line that carries the disconnect fields: its own
cause where it had one, else its link's. An opening that fails has no such line. Nothing here touches a
tunnel.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from tether.agent.control.home_region import HomeRegion
from tether.attribution import evidence as ev
from tether.attribution.disconnect import Disconnect
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import Party, Vantage
from tether.net.clock import Clock
from tether.net.link.control_log import ControlLog
from tether.net.link.coordination import Coordination, Event
from tether.net.link.driver import LinkDriver
from tether.protocol.coordination.client import CoordinationEnded
from tether.protocol.messages.base import Message
from tether.protocol.messages.coordination import Node
from tether.protocol.messages.derp import DerpMap


class ControlStreams:
    """The streams of one agent, over one link after another."""

    def __init__(
        self,
        clock: Clock,
        log: ControlLog,
        *,
        endpoints: Callable[[], list[str]] = list,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`endpoints` says where the agent can be dialled now, best first."""
        self._clock = clock
        self._log = log
        self._endpoints = endpoints
        self._coordination = Coordination(
            Party.AGENT, clock, on_event=self._happened, jitter=jitter
        )
        self._home = HomeRegion(clock, on_change=self.refresh, jitter=jitter)

        self._connection_id = ""
        """The link that is up, or was last."""

        self._driver: LinkDriver | None = None

        self._map_since: float | None = None
        """When (monotonic seconds) the first DERP map of this link came."""

        self._acknowledged: bool | None = None
        """Whether the coordinator answered our leaving in time."""

    def link_up(self, connection_id: str, driver: LinkDriver) -> None:
        """A link was welcomed: its streams are opened."""
        self._connection_id = connection_id
        self._driver = driver
        self.refresh()
        self._coordination.link_up(driver)

    def link_over(self, facts: tuple[Evidence, ...]) -> None:
        """The link is over, and its streams with it."""
        self._coordination.link_over(facts)
        if self._map_since is not None:
            lived_s = self._clock.now().mono - self._map_since
            self._log.map_over(self._connection_id, facts, lived_s)
        self._map_since = self._driver = None

    def deliver(self, message: Message) -> bool:
        """Take a message if it belongs to a stream of ours."""
        if isinstance(message, DerpMap):
            self._map_came(message)
            return True
        return self._coordination.deliver(message)

    def refresh(self) -> None:
        """Say where we are, and how far each DERP region is, if that has changed."""
        latency = self._home.region_latency
        node = Node(
            id="",
            as_of=self._clock.now().wall,
            endpoints=self._endpoints(),
            home_region=latency.home,
            region_latency={name: round(one, 4) for name, one in latency.latency_s.items()},
        )
        self._coordination.update_self(node)

    async def leave(self, said: ev.GoodbyeSaid) -> bool | None:
        """Leave the coordinator for good: whether it acknowledged that in time; None where there was
        no stream to leave."""
        self._coordination.leave(said)
        await self._coordination.over()
        return self._acknowledged

    def stop(self) -> None:
        """No timer fires any more."""
        self._home.stop()
        self._coordination.stop()

    def _map_came(self, derp_map: DerpMap) -> None:
        if self._map_since is None:
            self._map_since = self._clock.now().mono
            self._log.map_up(self._connection_id, len(derp_map.regions))
        self._home.map_came(derp_map)

    def _happened(self, event: Event) -> None:
        judged = self._log.coordination(self._connection_id, event)
        if isinstance(event, CoordinationEnded) and judged is not None:
            self._ended(event, judged)

    def _ended(self, ended: CoordinationEnded, judged: Disconnect) -> None:
        self._acknowledged = ended.acknowledged
        of_its_own = not ended.by_link and ended.acknowledged is None
        if of_its_own and self._driver is not None:  # else the link's own end says the same
            self._driver.cell.note(
                ev.LogicalStreamEnded(
                    vantage=Vantage.AGENT,
                    at=self._clock.now().wall,
                    stream="coordination",
                    cause=judged.cause,
                    actor=judged.actor,
                    detail=judged.detail,
                )
            )
