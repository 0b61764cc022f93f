"""The client's coordination before there is one: made when it is first needed, and not before.

Law: cheap to import, for every `ssh` does. What needs the machine is imported `COORDINATE_AFTER_S` after
the tunnel is up. A client that leaves before pays nothing and says nothing.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from tether.attribution.evidence import Evidence
from tether.client.control.events import AgentHere, AgentLost
from tether.net.clock import Clock
from tether.net.link.driver import LinkDriver
from tether.net.tasks import Tasks
from tether.protocol.messages.base import Message

if TYPE_CHECKING:
    from tether.client.control.coordination import ClientCoordination
    from tether.net.link.control_log import ControlLog

COORDINATE_AFTER_S = 2.0
"""What is over sooner needs to follow nobody, and on a busy machine an `ssh host true` takes a while."""

_MODULE = "tether.client.control.coordination"


class LazyCoordination:
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
        self._jitter = jitter
        self._log = log
        self._tasks = Tasks("coordination")
        self._timer: asyncio.TimerHandle | None = None
        self._begun: ClientCoordination | None = None
        self._link: tuple[str, LinkDriver] | None = None

    def follow(self, agent: str, home_region: str) -> None:
        """The tunnel to this agent (by its workspace's id) is up; `home_region` is ours."""
        self._timer = asyncio.get_running_loop().call_later(
            COORDINATE_AFTER_S,
            lambda: self._tasks.spawn(self._begin(agent, home_region), "begin"),
        )

    def link_up(self, connection_id: str, driver: LinkDriver) -> None:
        """A link was welcomed."""
        self._link = connection_id, driver
        if self._begun is not None:
            self._begun.link_up(connection_id, driver)

    def link_over(self, facts: tuple[Evidence, ...]) -> None:
        """The link is over."""
        self._link = None
        if self._begun is not None:
            self._begun.link_over(facts)

    def deliver(self, message: Message) -> bool:
        """Take a message if it is for us."""
        return self._begun is not None and self._begun.deliver(message)

    def leave(self) -> None:
        """Announce that this client leaves. What is sent after that needs not wait for the answer."""
        if self._timer is not None:
            self._timer.cancel()
        if self._begun is not None:
            self._begun.leave()

    async def over(self) -> None:
        """After `leave`: wait until it is acknowledged, or has waited long enough."""
        await self._tasks.cancel()
        if self._begun is not None:
            await self._begun.over()

    async def _begin(self, agent: str, home_region: str) -> None:
        if _MODULE not in sys.modules:  # twelve milliseconds; not in one piece, for somebody types
            await asyncio.to_thread(importlib.import_module, _MODULE)
        from tether.client.control.coordination import ClientCoordination

        self._begun = begun = ClientCoordination(
            self._clock, on_agent=self._on_agent, jitter=self._jitter, log=self._log
        )
        begun.want(agent, home_region)
        if self._link is not None:
            begun.link_up(*self._link)
