"""Two link drivers on one cable."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any

from tests.support.clock import LoopClock
from tests.support.net.cable import Cable
from tether.attribution.vocabulary import Party
from tether.net.link.driver import LinkDriver
from tether.net.tasks import Tasks
from tether.net.transport.streams import MessageStream
from tether.protocol.link.link import Link
from tether.protocol.messages.base import Message
from tether.protocol.messages.codec import decode, encode

PING_EVERY, PATIENCE, LINGER = 15.0, 45.0, 3.0


@dataclass
class Inbox:
    """What an end was given, in order; while `busy` is there and not set, its handler waits."""

    messages: list[Message] = field(default_factory=list)
    busy: asyncio.Event | None = None

    def __call__(self, message: Message) -> Awaitable[None] | None:
        self.messages.append(message)
        return None if self.busy is None else self._wait(self.busy)

    async def _wait(self, gate: asyncio.Event) -> None:
        await gate.wait()


def driver(
    stream: MessageStream, *, me: Party, peer: Party, deliver: Any, **options: Any
) -> LinkDriver:
    """A control link's driver with the usual keepalive."""
    clock = LoopClock()
    link = Link(
        me=me,
        peer=peer,
        now=clock.now(),
        ping_every=PING_EVERY,
        patience=PATIENCE,
        linger=LINGER,
    )
    return LinkDriver(
        stream=stream,
        link=link,
        clock=clock,
        deliver=deliver,
        **{"pack": encode, "unpack": decode, **options},
    )


class ControlLink:
    """An agent and a server joined by a cable. `start` lets both run."""

    def __init__(self, **cable: Any) -> None:
        self.cable = Cable(**cable)
        self.heard_by_agent, self.heard_by_server = Inbox(), Inbox()
        self.agent = driver(
            self.cable.left, me=Party.AGENT, peer=Party.SERVER, deliver=self.heard_by_agent
        )
        self.server = driver(
            self.cable.right, me=Party.SERVER, peer=Party.AGENT, deliver=self.heard_by_server
        )
        self.tasks = Tasks("test")

    def start(self) -> ControlLink:
        self.agent_run = self.tasks.spawn(self.agent.run(), "agent")
        self.server_run = self.tasks.spawn(self.server.run(), "server")
        return self

    async def over(self) -> None:
        """Wait until both ends are over."""
        await self.agent_run
        await self.server_run
