"""Support for the tests of the agent's life: a server's end of control links, and captured logs.

The server here is played by the test, over cables, with the product's own `Link` and `LinkDriver`; no
part of the agent is replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog
from structlog.typing import EventDict

from tests.support.net.cable import Cable
from tether.agent import supervisor
from tether.agent.control import link as control
from tether.agent.journal import journal
from tether.agent.tunnels import manager as tunnels
from tether.attribution.vocabulary import Party
from tether.net.clock import Clock
from tether.net.link import control_log
from tether.net.link.driver import LinkDriver
from tether.net.tasks import Tasks
from tether.net.transport.streams import DialFailed, MessageStream, StreamLost
from tether.protocol.link.link import Link
from tether.protocol.messages.base import Message
from tether.protocol.messages.codec import PROTOCOL, decode, encode
from tether.protocol.messages.control import Hello, Unsupported, Welcome
from tether.protocol.messages.coordination import (
    Coordinate,
    CoordinateClosed,
    CoordinateOpen,
    CoordinateOpened,
    Departure,
    ResumeTokenRequest,
)
from tether.protocol.messages.reports import Report, ReportAck

M = TypeVar("M", bound=Message)

DISCONNECT_FIELDS = {
    "connect_type",
    "disconnect_reason",
    "disconnect_expected",
    "disconnect_initiator",
    "disconnect_detail",
    "disconnect_cause",
    "disconnect_basis",
    "disconnect_actor",
}


LOGGERS = {"_log", "_coordination_log"}


@contextlib.contextmanager
def captured() -> Iterator[list[MutableMapping[str, Any]]]:
    """What the agent logs meanwhile, whatever logging was set up before."""
    modules: tuple[Any, ...] = (control, control_log, journal, supervisor, tunnels)
    loggers = [(module, name) for module in modules for name in vars(module) if name in LOGGERS]
    before = [getattr(module, name) for module, name in loggers]
    try:
        with structlog.testing.capture_logs() as lines:
            for module, name in loggers:
                setattr(module, name, structlog.get_logger())
            yield lines
    finally:
        for (module, name), log in zip(loggers, before, strict=True):
            setattr(module, name, log)


def events(lines: Sequence[EventDict], name: str) -> list[EventDict]:
    return [line for line in lines if line["event"] == name]


@dataclass
class ServerLink:
    """The server's end of one control link."""

    number: int
    began: float
    stream: MessageStream
    cable: Cable | None = None
    hello: Hello | None = None
    driver: LinkDriver | None = None
    heard: list[Message] = field(default_factory=list)
    asked: list[Message] = field(default_factory=list)
    """What was asked of the coordinator."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def say(self, message: Message) -> None:
        assert self.driver is not None, "not welcomed yet"
        self.driver.send(message)

    async def until(self, check: Callable[[], bool]) -> None:
        while not check():
            self.changed.clear()
            await self.changed.wait()

    async def hear(self, kind: type[M], count: int = 1) -> list[M]:
        """The first `count` messages of a kind, once they are here."""

        def found() -> list[M]:
            return [message for message in self.heard if isinstance(message, kind)]

        await self.until(lambda: len(found()) >= count)
        return found()[:count]

    def acknowledge(self, report: Report, seq: int | None = None) -> None:
        last = report.first_seq + len(report.items) - 1
        self.say(ReportAck(journal_id=report.journal_id, seq=last if seq is None else seq))


class PlayedServer:
    """Accepts control links as the test wishes. `answers` are used up first, one a dial."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.welcome: dict[str, Any] = {}
        self.answers: list[DialFailed | Message | bytes | None] = []
        self.dialled_at: list[float] = []
        self.links: list[ServerLink] = []
        self.acknowledging = False
        self.coordinating = False
        """Whether there is a coordinator; without one the agent hears what an old server says."""
        self.hanging_up = True
        """Whether the coordinator answers a disconnect."""
        self._tasks = Tasks("played-server")
        self._changed = asyncio.Event()

    async def dial(self) -> MessageStream:
        """What the agent dials with."""
        self.dialled_at.append(self._clock.now().mono)
        self._changed.set()
        answer = self.next_answer()
        if isinstance(answer, DialFailed):
            raise answer
        cable = Cable()
        self._tasks.spawn(self.serve(cable.right, answer, cable), "serve")
        return cable.left

    def next_answer(self) -> DialFailed | Message | bytes | None:
        """What the next dial meets: a welcome, unless the test wishes otherwise."""
        if self.answers:
            return self.answers.pop(0)
        return Welcome(
            **{
                "protocol": PROTOCOL,
                "connection_id": f"link-{len(self.links) + 1}",
                "server_instance": "server-1",
                "version": "9.9",
                "workspace_id": "ws-1",
                "workspace": "dev",
                "user_ca_key": "",
                **self.welcome,
            }
        )

    async def serve(
        self,
        stream: MessageStream,
        answer: DialFailed | Message | bytes | None,
        cable: Cable | None = None,
    ) -> None:
        """One link from the first message on. `None` as an answer hangs up, bytes are sent raw."""
        try:
            raw = await stream.recv()
            assert isinstance(raw, bytes)
            hello = decode(raw)
            assert isinstance(hello, Hello), hello
            if answer is None or isinstance(answer, DialFailed):
                await stream.close(1011, "")
                return
            await stream.send(answer if isinstance(answer, bytes) else encode(answer))
            if not isinstance(answer, Welcome) or answer.protocol != PROTOCOL:
                await stream.recv()
                return
        except StreamLost:
            return
        link = ServerLink(len(self.links) + 1, self._clock.now().mono, stream, cable, hello)

        def deliver(message: Message) -> None:
            if isinstance(message, CoordinateOpen | Coordinate | ResumeTokenRequest):
                link.asked.append(message)
                self._coordinate(link, message)
                link.changed.set()
                return
            link.heard.append(message)
            if isinstance(message, Report) and self.acknowledging:
                link.acknowledge(message)
            link.changed.set()

        link.driver = LinkDriver(
            stream=stream,
            link=Link(me=Party.SERVER, peer=Party.AGENT, now=self._clock.now()),
            clock=self._clock,
            pack=encode,
            unpack=decode,
            deliver=deliver,
        )
        self.links.append(link)
        self._changed.set()
        await link.driver.run()

    def _coordinate(self, link: ServerLink, message: Message) -> None:
        match message:
            case CoordinateOpen():
                link.say(
                    CoordinateOpened(peer_id="ws-1")
                    if self.coordinating
                    else Unsupported(message_type="coordinate_open")
                )
            case Coordinate(disconnect=Departure(cause=cause)) if self.hanging_up:
                link.say(CoordinateClosed(cause=cause))
            case ResumeTokenRequest():
                link.say(Unsupported(message_type="resume_token_request"))
            case _:
                pass

    async def link(self, number: int = 1) -> ServerLink:
        """The n-th link that was welcomed."""
        await self._until(lambda: len(self.links) >= number)
        return self.links[number - 1]

    async def dials(self, count: int) -> list[float]:
        """When the first `count` dials were made."""
        await self._until(lambda: len(self.dialled_at) >= count)
        return self.dialled_at[:count]

    async def _until(self, check: Callable[[], bool]) -> None:
        while not check():
            self._changed.clear()
            await self._changed.wait()

    async def close(self) -> None:
        await self._tasks.cancel()
