"""This client's coordination: it says who comes to which agent, and is told where that agent is.

Law: nothing waits for it, and what becomes of it ends no tunnel: an agent that the server has lost may
still be carried. Where the agent is goes on to the carriers as a way to try. That it left or is lost is
a word for people only, and only while our own stream is there to know.

Every `ssh` imports this module, so it is cheap: what it runs on is imported `COORDINATE_AFTER_S` after
the tunnel is up. A client that leaves before pays nothing and says nothing.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from tether.attribution.causes.codes import CLIENT_CLOSED
from tether.attribution.evidence import Evidence, GoodbyeSaid
from tether.attribution.vocabulary import Party, Vantage
from tether.client.control.events import AgentHere, AgentLost
from tether.net.clock import Clock
from tether.net.link.driver import LinkDriver
from tether.net.tasks import Tasks
from tether.protocol.messages.base import Message
from tether.protocol.messages.coordination import Node

if TYPE_CHECKING:
    from tether.net.link.control_log import ControlLog
    from tether.net.link.coordination import Coordination, Event

COORDINATE_AFTER_S = 2.0
"""What is over sooner needs to follow nobody, and on a busy machine an `ssh host true` takes a while."""

_RUNS_ON = "tether.net.link.coordination"


class ClientCoordination:
    """One client's side of coordination, over one link after another."""

    def __init__(
        self,
        clock: Clock,
        *,
        on_agent: Callable[[AgentHere | AgentLost], None],
        jitter: Callable[[], float],
        log: ControlLog | None = None,
    ) -> None:
        """`on_agent` is told where the agent is, and whether the server has lost it; `jitter` draws
        from [0, 1); `log` writes a line for each end, if that is wanted."""
        self._clock = clock
        self._on_agent = on_agent
        self._jitter = jitter
        self._log = log
        self._tasks = Tasks("coordination")
        self._timer: asyncio.TimerHandle | None = None  # rings when it is time to begin
        self._begun: Coordination | None = None
        self._link: tuple[str, LinkDriver] | None = None  # the link that is up, by its id
        self._connection_id = ""  # that link, or the last one
        self._agent = ""  # the agent that is followed, by its workspace's id
        self._agents_home = ""  # its home region, as far as it is known
        self._open = False  # whether our own stream is there
        self._lost = False  # whether the server has lost the agent

    def follow(self, agent: str, home_region: str) -> None:
        """The tunnel to this agent (by its workspace's id) is up; `home_region` is ours."""
        self._timer = asyncio.get_running_loop().call_later(
            COORDINATE_AFTER_S,
            lambda: self._tasks.spawn(self._begin(agent, home_region), "begin"),
        )

    def link_up(self, connection_id: str, driver: LinkDriver) -> None:
        """A link was welcomed."""
        self._link = connection_id, driver
        self._connection_id = connection_id
        if self._begun is not None:
            self._begun.link_up(driver)

    def link_over(self, facts: tuple[Evidence, ...]) -> None:
        """The link is over, because of `facts`."""
        self._link = None
        if self._begun is not None:
            self._begun.link_over(facts)

    def deliver(self, message: Message) -> bool:
        """Take a message if it is for us; False if it is not."""
        return self._begun is not None and self._begun.deliver(message)

    def leave(self) -> None:
        """Announce that this client leaves. What is sent after that needs not wait for the answer."""
        if self._timer is not None:
            self._timer.cancel()
        if self._begun is not None:
            self._begun.leave(
                GoodbyeSaid(
                    vantage=Vantage.CLIENT,
                    at=self._clock.now().wall,
                    by=Party.CLIENT,
                    cause=CLIENT_CLOSED,
                )
            )

    async def over(self) -> None:
        """After `leave`: wait until it is acknowledged, or has waited long enough."""
        await self._tasks.cancel()
        if self._begun is not None:
            await self._begun.over()
            self._begun.stop()

    async def _begin(self, agent: str, home_region: str) -> None:
        if _RUNS_ON not in sys.modules:  # twelve milliseconds, in a thread, because somebody types
            await asyncio.to_thread(importlib.import_module, _RUNS_ON)
        from tether.net.link.coordination import Coordination

        self._agent = agent
        self._begun = begun = Coordination(
            Party.CLIENT, self._clock, on_event=self._happened, jitter=self._jitter
        )
        begun.update_self(Node(id="", as_of=self._clock.now().wall, home_region=home_region))
        begun.sync_destinations([agent])
        if self._link is not None:
            begun.link_up(self._link[1])

    def _happened(self, event: Event) -> None:
        from tether.protocol.coordination.client import CoordinationEnded, StreamOpened
        from tether.protocol.coordination.peers import PeerChanged

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
        before, self._agents_home = self._agents_home, node.home_region or self._agents_home
        moved = bool(before) and self._agents_home != before
        self._on_agent(AgentHere(tuple(node.endpoints), self._agents_home if moved else ""))
