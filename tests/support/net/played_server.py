"""The server's end of control links, played: over cables, with the product's own link and driver."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

from tests.support.clock import LoopClock
from tests.support.net.cable import Cable
from tether.attribution.vocabulary import Party
from tether.net.link.driver import LinkDriver
from tether.net.tasks import Tasks
from tether.net.transport.streams import MessageStream
from tether.protocol.link.link import Link
from tether.protocol.messages.base import Message
from tether.protocol.messages.codec import PROTOCOL
from tether.protocol.messages.control import Goodbye, Hello, Welcome


def welcome(number: int = 1, **more: Any) -> Welcome:
    """The welcome to the n-th link."""
    return Welcome(
        **{
            "protocol": PROTOCOL,
            "connection_id": f"link-{number}",
            "server_instance": "s",
            "version": "9",
            **more,
        }
    )


class PlayedServer:
    """Accepts control links of `peer` as the test wishes: `answers` are used up first, one a dial."""

    def __init__(
        self, peer: Party, on_message: Callable[[Message, LinkDriver], None] = lambda *_: None
    ) -> None:
        """`on_message` answers what comes after the hello."""
        self.answers: list[Any] = []
        """A `DialFailed` or another exception is raised by the dial, bytes are sent as they are, None
        hangs up, and "" says nothing."""

        self.dialled_at: list[float] = []
        self.cables: list[Cable] = []
        self.drivers: list[LinkDriver] = []
        self.heard: list[Message] = []
        self.tasks = Tasks("played-server")
        self._peer = peer
        self._on_message = on_message

    async def dial(self) -> MessageStream:
        """What the product dials with."""
        self.dialled_at.append(asyncio.get_running_loop().time())
        answer = self.answers.pop(0) if self.answers else welcome(len(self.drivers) + 1)
        if isinstance(answer, Exception):
            raise answer
        cable = Cable()
        clock = LoopClock()

        def deliver(message: Message) -> None:
            self.heard.append(message)
            if isinstance(message, Hello):
                self._answer(answer, cable, driver)
            else:
                self._on_message(message, driver)

        driver = LinkDriver(
            stream=cable.right,
            link=Link(me=Party.SERVER, peer=self._peer, now=clock.now()),
            clock=clock,
            deliver=deliver,
        )
        self.cables.append(cable)
        self.drivers.append(driver)
        self.tasks.spawn(driver.run(), "serve")
        return cable.left

    def waits(self) -> list[float]:
        """Seconds between the dials."""
        return [round(b - a, 1) for a, b in itertools.pairwise(self.dialled_at)]

    def heard_of(self, kind: type[Message]) -> list[Message]:
        """All messages of one kind, on any link."""
        return [message for message in self.heard if isinstance(message, kind)]

    def _answer(self, answer: Any, cable: Cable, driver: LinkDriver) -> None:
        match answer:
            case None:
                cable.die(cable.right)
            case "":
                pass
            case bytes():
                driver.send_data(answer)
            case Goodbye():
                driver.leave(answer.cause, detail=answer.detail, retry_after_s=answer.retry_after_s)
            case _:
                driver.send(answer)
