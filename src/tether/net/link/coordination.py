"""Runs a `CoordinationClient`: carries messages and time between it and the control links.

Law: performs the machine's commands on the link that is up, and sets one timer anew after each step.
Decides nothing; what does not go onto the wire is handed to `on_event`, in order.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import TypeAlias

from tether.attribution.evidence import Evidence, GoodbyeSaid
from tether.attribution.vocabulary import Party
from tether.net.clock import Clock
from tether.net.link.driver import LinkDriver
from tether.protocol.coordination.client import (
    Command,
    CoordinationClient,
    CoordinationEnded,
    OpenFailed,
    SendOnStream,
    StreamOpened,
    Warned,
)
from tether.protocol.coordination.peers import PeerChanged
from tether.protocol.messages.base import Message
from tether.protocol.messages.coordination import Node

Event: TypeAlias = StreamOpened | OpenFailed | CoordinationEnded | Warned | PeerChanged


class Coordination:
    """One party's coordination, on one control link after another; see `CoordinationClient`."""

    def __init__(
        self,
        role: Party,
        clock: Clock,
        *,
        on_event: Callable[[Event], None],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._machine = CoordinationClient(role)
        self._clock = clock
        self._on_event = on_event
        self._jitter = jitter
        self._driver: LinkDriver | None = None  # of the link that is up
        self._timer: asyncio.TimerHandle | None = None
        self._over = asyncio.Event()

    def link_up(self, driver: LinkDriver) -> None:
        """A link was welcomed."""
        self._driver = driver
        self._do(self._machine.link_up(self._clock.now()))

    def link_over(self, facts: tuple[Evidence, ...]) -> None:
        """The link is over, because of `facts`."""
        self._driver = None
        self._do(self._machine.link_over(facts, self._clock.now()))

    def deliver(self, message: Message) -> bool:
        """Take a message if it is for us; False if it is not."""
        if not self._machine.is_ours(message):
            return False
        self._do(self._machine.receive(message, self._clock.now(), self._jitter()))
        return True

    def update_self(self, node: Node) -> None:
        """Tell peers where we can be reached. The node's id is filled in."""
        self._do(self._machine.update_self(node))

    def sync_destinations(self, peer_ids: Iterable[str]) -> None:
        """Want tunnels to exactly these peers."""
        self._do(self._machine.sync_destinations(peer_ids))

    def leave(self, said: GoodbyeSaid) -> None:
        """Leave for good, with a cause; await `over` for its end."""
        self._do(self._machine.leave(said, self._clock.now()))

    async def over(self) -> None:
        """Wait until `leave` is acknowledged or its deadline has passed."""
        await self._over.wait()

    def stop(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._timer = None
        self._do(self._machine.tick(self._clock.now()))

    def _do(self, commands: list[Command]) -> None:
        for command in commands:
            if not isinstance(command, SendOnStream):
                self._on_event(command)
            elif self._driver is not None:
                self._driver.send(command.message)
        if self._machine.is_over:
            self._over.set()
        self.stop()
        deadline = self._machine.deadline()
        if deadline is not None:
            wait_s = max(0.0, deadline - self._clock.now().mono)
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._tick)
