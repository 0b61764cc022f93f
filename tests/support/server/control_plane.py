"""A client's control plane in memory: a cable and a scripted server for each link that is dialled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.support.clock import LoopClock
from tests.support.net.cable import Cable
from tether.attribution.disconnect import CloseCell
from tether.attribution.vocabulary import Party
from tether.client.control.events import ControlWord
from tether.client.control.link import ClientControl
from tether.client.report.end_report import Seen, ended
from tether.net.link.control_log import ControlLog
from tether.net.link.driver import LinkDriver
from tether.net.tasks import Tasks
from tether.net.transport.streams import DialFailed, MessageStream
from tether.protocol.link.link import Link
from tether.protocol.messages.base import Message
from tether.protocol.messages.codec import PROTOCOL, decode, encode
from tether.protocol.messages.control import Hello, Welcome
from tether.protocol.messages.reports import Report, ReportAck
from tether.protocol.messages.tunnel import CarrierGrant, CarrierRequest, TunnelGrant, TunnelRequest

WELCOME = Welcome(protocol=PROTOCOL, connection_id="c", server_instance="s", version="0")
GRANT = TunnelGrant(
    request_id=1,
    connection_id="t",
    relay_url="ws://r",
    ticket="x",
    workspace_id="w",
    workspace="dev",
    host_key="ssh-ed25519 A",
)
Answers = Callable[[Message, LinkDriver], None]


class Server:
    """Answers every message by a script."""

    def __init__(self, cable: Cable, answer: Answers) -> None:
        clock = LoopClock()
        self.heard: list[Message] = []
        self._answer = answer
        self.driver = LinkDriver(
            stream=cable.right,
            link=Link(me=Party.SERVER, peer=Party.CLIENT, now=clock.now()),
            clock=clock,
            pack=encode,
            unpack=decode,
            deliver=self._deliver,
        )

    def _deliver(self, message: Message) -> None:
        self.heard.append(message)
        self._answer(message, self.driver)


class FakeControlPlane:
    """Where the client dials: a cable and a server for each link, or a refusal."""

    def __init__(self, answer: Answers, log: ControlLog | None = None) -> None:
        self.answer = answer
        self.cables: list[Cable] = []
        self.servers: list[Server] = []
        self.running: list[asyncio.Task[CloseCell]] = []
        self.dialled: list[float] = []
        self.refuses: DialFailed | None = None
        self.words: list[ControlWord] = []
        self.tasks = Tasks("plane")
        self.control = ClientControl(
            self.dial,
            LoopClock(),
            on_word=self.words.append,
            jitter=lambda: 0.0,
            log=log,
        )

    async def dial(self) -> MessageStream:
        self.dialled.append(asyncio.get_running_loop().time())
        if self.refuses is not None:
            raise self.refuses
        self.cables.append(Cable())
        self.servers.append(Server(self.cables[-1], self.answer))
        self.running.append(self.tasks.spawn(self.servers[-1].driver.run(), "server"))
        return self.cables[-1].left

    async def report(self, connection_id: str, seen: Seen) -> bool:
        """Tell the server of a tunnel's end; whether it has committed that."""
        items = [ended(connection_id, seen, LoopClock())]
        return await self.control.hand_in(self.control.instance_id, items)

    @property
    def heard(self) -> list[Message]:
        """All that any server heard."""
        return [message for server in self.servers for message in server.heard]


def grants(message: Message, driver: LinkDriver) -> None:
    match message:
        case Hello():
            driver.send(WELCOME)
        case TunnelRequest():
            driver.send(GRANT)
        case Report(journal_id=journal, first_seq=seq):
            driver.send(ReportAck(journal_id=journal, seq=seq))
        case CarrierRequest(request_id=request, carrier=carrier):
            driver.send(CarrierGrant(request_id=request, connection_id="t", carrier=carrier))
