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
from tether.attribution.classify import classify
from tether.attribution.disconnect import Disconnect
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import ConnectType, Party, Vantage
from tether.log import disconnected, get_logger
from tether.net.clock import Clock
from tether.net.link.coordination import Coordination, Event
from tether.net.link.driver import LinkDriver
from tether.protocol.coordination.client import CoordinationEnded, OpenFailed, StreamOpened, Warned
from tether.protocol.coordination.peers import PeerChanged, PeerReady
from tether.protocol.messages.base import Message
from tether.protocol.messages.coordination import Node
from tether.protocol.messages.derp import DerpMap

_log = get_logger("coordination")


class ControlStreams:
    """See the module's law. Lives for as long as the agent, over one link after another."""

    def __init__(
        self,
        clock: Clock,
        *,
        endpoints: Callable[[], list[str]] = list,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`endpoints` says where the agent can be dialled now, best first."""
        self._clock, self._endpoints = clock, endpoints
        self._coordination = Coordination(
            Party.AGENT, clock, on_event=self._happened, jitter=jitter
        )
        self._connection_id = ""
        self._driver: LinkDriver | None = None
        self._home = HomeRegion(clock, on_change=self.refresh, jitter=jitter)
        self._map_since: float | None = None
        self._acknowledged: bool | None = None

    def dial_failed(self, hint_s: float) -> float:
        """No link came up: seconds to wait before the next dial."""
        return self._coordination.dial_failed(hint_s)

    def link_up(self, connection_id: str, driver: LinkDriver) -> None:
        """A link was welcomed: its streams are opened."""
        self._connection_id, self._driver = connection_id, driver
        self.refresh()
        self._coordination.link_up(driver)

    def link_over(self, facts: tuple[Evidence, ...], lived_s: float, hint_s: float) -> float:
        """The link is over, and its streams with it: seconds to wait before the next dial."""
        wait_s = self._coordination.link_over(facts, lived_s, hint_s)
        if self._map_since is not None:
            disconnected(
                _log,
                "disconnected from derp map RPC",
                _judged(facts),
                connection_id=self._connection_id,
                duration_s=round(self._clock.now().mono - self._map_since, 3),
            )
        self._map_since = self._driver = None
        return wait_s

    def deliver(self, message: Message) -> bool:
        """Take a message if it belongs to a stream of ours."""
        if isinstance(message, DerpMap):
            self._map_came(message)
            return True
        return self._coordination.deliver(message)

    def refresh(self) -> None:
        """Say where we are, and how far the DERP regions are, if that has changed."""
        near = self._home.nearness
        node = Node(
            id="",
            as_of=self._clock.now().wall,
            endpoints=self._endpoints(),
            home_region=near.home,
            region_latency={region: round(far, 4) for region, far in near.distances.items()},
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
            _log.info(
                "connected to derp map RPC",
                connection_id=self._connection_id,
                regions=len(derp_map.regions),
            )
        self._home.map_came(derp_map)

    def _happened(self, event: Event) -> None:
        match event:
            case StreamOpened(peer_id=peer_id):
                _log.info(
                    "connected to coordination RPC",
                    connection_id=self._connection_id,
                    peer_id=peer_id,
                )
            case CoordinationEnded():
                self._ended(event)
            case OpenFailed(error=error, cause=cause, retry_in_s=retry_in_s):
                _log.warning(
                    "failed to open coordination RPC",
                    connection_id=self._connection_id,
                    error=error,
                    cause=cause,
                    retry_in_s=retry_in_s,
                )
            case Warned(error=error):
                _log.warning("coordination warning", connection_id=self._connection_id, error=error)
            case PeerChanged(update=update):
                _log.debug(
                    "tunnel peer changed",
                    peer_id=update.id,
                    change=update.kind,
                    reason=update.reason,
                    cause=update.cause,
                )
            case PeerReady():
                pass  # a client's affair

    def _ended(self, ended: CoordinationEnded) -> None:
        judged = _judged(ended.facts)
        self._acknowledged = ended.acknowledged
        disconnected(
            _log,
            "disconnected from coordination RPC",
            judged,
            connection_id=self._connection_id,
            duration_s=round(ended.lived_s, 3),
            acknowledged=ended.acknowledged,
            retry_in_s=ended.retry_in_s,
        )
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


def _judged(facts: tuple[Evidence, ...]) -> Disconnect:
    return classify(ConnectType.SERVER_TO_AGENT, facts).disconnect
