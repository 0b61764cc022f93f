"""This client's coordination: it says who comes to which agent, and is told where that agent is.

Law: nothing waits for it, and what becomes of it touches no tunnel: an agent that is lost to the server
may still be carried. So where the agent is goes further as a way to try; that it left or is lost, as a
word for people only, and only while our own stream is there to know.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tether.attribution.causes.codes import CLIENT_CLOSED
from tether.attribution.evidence import Evidence, GoodbyeSaid
from tether.attribution.vocabulary import Party, Vantage
from tether.client.control.events import AgentHere, AgentLost
from tether.net.clock import Clock
from tether.net.link.coordination import Coordination, Event
from tether.net.link.driver import LinkDriver
from tether.protocol.coordination.client import CoordinationEnded, StreamOpened
from tether.protocol.coordination.peers import PeerChanged
from tether.protocol.messages.base import Message
from tether.protocol.messages.coordination import Node

if TYPE_CHECKING:
    from tether.net.link.control_log import ControlLog


class ClientCoordination:
    """See the module's law. One client's, over one link after another."""

    def __init__(
        self,
        clock: Clock,
        *,
        on_agent: Callable[[AgentHere | AgentLost], None],
        jitter: Callable[[], float],
        log: ControlLog | None = None,
    ) -> None:
        self._clock = clock
        self._on_agent = on_agent
        self._log = log
        self._coordination = Coordination(
            Party.CLIENT, clock, on_event=self._happened, jitter=jitter
        )
        self._connection_id = self._agent = self._home = ""
        self._open = self._lost = False

    def want(self, agent: str, home_region: str) -> None:
        """The agent (by its workspace's id) that the tunnel goes to, and the region nearest to us."""
        self._agent = agent
        node = Node(id="", as_of=self._clock.now().wall, home_region=home_region)
        self._coordination.update_self(node)
        self._coordination.sync_destinations([agent])

    def link_up(self, connection_id: str, driver: LinkDriver) -> None:
        """A link was welcomed. Without a wish there is nothing to open on it."""
        self._connection_id = connection_id
        if self._agent:
            self._coordination.link_up(driver)

    def link_over(self, facts: tuple[Evidence, ...]) -> None:
        """The link is over."""
        self._coordination.link_over(facts)

    def deliver(self, message: Message) -> bool:
        """Take a message if it is for us."""
        return self._coordination.deliver(message)

    def leave(self) -> None:
        """Announce that this client leaves; `over` tells when that is done."""
        self._coordination.leave(
            GoodbyeSaid(
                vantage=Vantage.CLIENT,
                at=self._clock.now().wall,
                by=Party.CLIENT,
                cause=CLIENT_CLOSED,
            )
        )

    async def over(self) -> None:
        """Wait until `leave` is acknowledged, or has waited long enough; no timer fires after that."""
        await self._coordination.over()
        self._coordination.stop()

    def _happened(self, event: Event) -> None:
        if self._log is not None:
            self._log.coordination(self._connection_id, event)
        match event:
            case StreamOpened():
                self._open = True
            case CoordinationEnded():  # before it tells of peers that are lost with it
                self._open = False
                self._agent_is_lost(False)
            case PeerChanged(update=update) if update.id == self._agent:
                if update.node is not None:
                    self._agent_is_at(update.node)
                elif self._open:
                    self._agent_is_lost(True)
            case _:
                pass

    def _agent_is_lost(self, lost: bool) -> None:
        if lost is not self._lost:
            self._lost = lost
            self._on_agent(AgentLost(lost))

    def _agent_is_at(self, node: Node) -> None:
        self._agent_is_lost(False)
        before, self._home = self._home, node.home_region or self._home
        moved = bool(before) and self._home != before
        self._on_agent(AgentHere(tuple(node.endpoints), self._home if moved else ""))
