"""A standalone relay in this process: its port is real, its server is played over a cable.

Law: the relay's own parts, composed as `tether.run.relay` composes them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import CollectorRegistry

from tests.support.deadline import DEADLINE_S
from tests.support.net.cable import Cable
from tether.attribution.vocabulary import Party
from tether.net.clock import SystemClock
from tether.net.derp.metrics import RelayCounts
from tether.net.derp.relay import Relay
from tether.net.derp.tickets import TicketGate, Tickets
from tether.net.link.driver import LinkDriver
from tether.net.tasks import Tasks
from tether.net.transport.http_server import HttpServer, bind
from tether.net.transport.streams import MessageStream
from tether.net.tunnel.relay_dial import dial_relay
from tether.protocol.derp.outbox import RelayLedger
from tether.protocol.derp.pairing import CarrierId
from tether.protocol.link.link import Link
from tether.protocol.messages.base import Message
from tether.protocol.messages.codec import PROTOCOL, decode, encode
from tether.protocol.messages.control import Hello, Welcome
from tether.protocol.messages.derp import (
    RelayGoodbye,
    RelayRegister,
    RelayRegistered,
    RelayReport,
    RelayReportAck,
)
from tether.relay.app import RelayFront
from tether.relay.control import RelayControl
from tether.relay.lifecycle import RelayLife

M = TypeVar("M", bound=Message)
REGION = "ams"
WELCOME = Welcome(protocol=PROTOCOL, connection_id="c", server_instance="s", version="0")


class PlayedServer:
    """A relay's control plane: registers it and acknowledges what it reports."""

    def __init__(self, tickets: Tickets) -> None:
        self.tickets = tickets
        self.draining = False
        """Whether the region is not in use when the relay registers."""
        self.heard: list[Message] = []
        self._heard = asyncio.Event()
        self._tasks = Tasks("played-server")
        self._driver: LinkDriver | None = None

    async def dial(self) -> MessageStream:
        cable, clock = Cable(), SystemClock()
        self._driver = LinkDriver(
            stream=cable.right,
            link=Link(me=Party.SERVER, peer=Party.RELAY, now=clock.now()),
            clock=clock,
            pack=encode,
            unpack=decode,
            deliver=self._deliver,
        )
        self._tasks.spawn(self._driver.run(), "link")
        return cable.left

    def _deliver(self, message: Message) -> None:
        self.heard.append(message)
        self._heard.set()
        match message:
            case Hello():
                self.say(WELCOME)
            case RelayRegister():
                keys = self.tickets.public_keys
                self.say(RelayRegistered(ticket_keys=keys, draining=self.draining))
            case RelayReport(first_seq=first, ended=ended) if ended:
                self.say(RelayReportAck(seq=first + len(ended) - 1))

    def say(self, message: Message) -> None:
        assert self._driver is not None
        self._driver.send(message)

    async def hear(self, kind: type[M]) -> M:
        """The first message of this kind, once it is here."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                for message in self.heard:
                    if isinstance(message, kind):
                        return message
                self._heard.clear()
                await self._heard.wait()

    async def close(self) -> None:
        await self._tasks.cancel()


@dataclass
class Site:
    """A relay that its server has registered."""

    port: int
    relay: Relay
    life: RelayLife
    server: PlayedServer
    legs: list[MessageStream] = field(default_factory=list)

    def url(self, path: str = "/derp") -> str:
        return f"ws://127.0.0.1:{self.port}{path}"

    def ticket(self, party: Party, connection_id: str = "c1", region: str = REGION) -> str:
        return self.server.tickets.mint(CarrierId(connection_id, 1), party, region)

    async def join(self, connection_id: str = "c1") -> tuple[MessageStream, MessageStream]:
        """Both legs of a carrier: the client's, the agent's."""
        client, agent = await asyncio.gather(
            *(
                dial_relay(self.url(), self.ticket(party, connection_id))
                for party in (Party.CLIENT, Party.AGENT)
            )
        )
        self.legs += (client, agent)
        return client, agent

    async def get(self, path: str) -> tuple[int, str, bytes]:
        """Status, content type and body."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        head, _, body = (await asyncio.wait_for(reader.read(), DEADLINE_S)).partition(b"\r\n\r\n")
        writer.close()
        status, *headers = head.decode().split("\r\n")
        kinds = [h.partition(": ")[2] for h in headers if h.lower().startswith("content-type")]
        return int(status.split()[1]), kinds[0], body


@contextlib.asynccontextmanager
async def site(
    *, registers: bool = True, draining: bool = False, **life: Any
) -> AsyncIterator[Site]:
    """A relay at its port. With `registers` it has dialled its server; `life` is for `RelayLife`."""
    registry, clock = CollectorRegistry(), SystemClock()
    server = PlayedServer(Tickets(Ed25519PrivateKey.generate(), clock))
    server.draining = draining
    control = RelayControl(
        dial=server.dial,
        region=REGION,
        url="ws://relay.example/derp",
        instance_id="run-1",
        hostname="host",
        clock=clock,
        ledger=RelayLedger(),
    )
    relay = Relay(log=control, clock=clock, counts=RelayCounts(registry))
    gate = TicketGate(REGION, clock)
    living = RelayLife(relay=relay, gate=gate, control=control, clock=clock, **life)
    front = RelayFront(relay=relay, gate=gate, registry=registry, ready=lambda: bool(gate.keys))
    listener, sock, tasks = HttpServer(front), bind("127.0.0.1", 0), Tasks("site")
    serving = tasks.spawn(listener.serve(sockets=[sock]), "listener")
    await listener.wait_started()
    here = Site(sock.getsockname()[1], relay, living, server)
    try:
        if registers:
            tasks.spawn(control.run(living), "control")
            await asyncio.wait_for(living.ready.wait(), DEADLINE_S)
        yield here
    finally:
        await asyncio.gather(*(leg.close(1000, "") for leg in here.legs))
        relay.stop(RelayGoodbye(cause="relay.shutdown"))
        listener.should_exit = True
        await serving
        await relay.aclose()
        await tasks.cancel()
        await server.close()
