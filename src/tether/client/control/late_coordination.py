"""The client's coordination before there is one: made when it is first needed, and not before.

Law: cheap to import, for every `ssh` does. What needs the machine is imported `COORDINATE_AFTER_S` after
the tunnel is up, or when a control link has ended and somebody must say when to dial again. A client
that leaves before pays nothing and says nothing.
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
    from tether.client.control.log import ControlLines

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
        lines: ControlLines | None = None,
    ) -> None:
        self._clock, self._on_agent, self._jitter, self._lines = clock, on_agent, jitter, lines
        self._tasks = Tasks("coordination")
        self._timer: asyncio.TimerHandle | None = None
        self._begun: ClientCoordination | None = None
        self._link: tuple[str, LinkDriver] | None = None
        self._left = False

    def follow(self, agent: str, home_region: str) -> None:
        """The tunnel to this agent (by its workspace's id) is up; `home_region` is ours."""
        self._timer = asyncio.get_running_loop().call_later(
            COORDINATE_AFTER_S,
            lambda: self._tasks.spawn(self._begin(agent, home_region), "begin"),
        )

    def dial_failed(self) -> float:
        """No link came up: seconds to wait before the next dial."""
        return self._made().dial_failed()

    def link_up(self, connection_id: str, driver: LinkDriver) -> None:
        """A link was welcomed."""
        self._link = connection_id, driver
        if self._begun is not None:
            self._begun.link_up(connection_id, driver)

    def link_over(self, facts: tuple[Evidence, ...], lived_s: float, hint_s: float) -> float:
        """The link is over: seconds to wait before the next dial."""
        self._link = None
        if self._begun is None and self._left:
            return 0.0
        return self._made().link_over(facts, lived_s, hint_s)

    def deliver(self, message: Message) -> bool:
        """Take a message if it is for us."""
        return self._begun is not None and self._begun.deliver(message)

    def leave(self) -> None:
        """Announce that this client leaves. What is sent after that needs not wait for the answer."""
        self._left = True
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
        begun = self._made()
        begun.want(agent, home_region)
        if self._link is not None:
            begun.link_up(*self._link)

    def _made(self) -> ClientCoordination:
        from tether.client.control.coordination import ClientCoordination

        if self._begun is None:
            self._begun = ClientCoordination(
                self._clock, on_agent=self._on_agent, jitter=self._jitter, lines=self._lines
            )
        return self._begun
