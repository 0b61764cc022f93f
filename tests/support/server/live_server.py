"""A real server in this process on a free loopback port, and peers that speak the real protocol.

Law: nothing of the server is replaced; only its patience is shortened. Whatever a test starts is
stopped at the end of its `async with`.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import asyncssh

from tests.support.deadline import DEADLINE_S
from tests.support.server.database import put_empty
from tests.support.server.log_reader import ADMIN, LogReader
from tether.attribution.vocabulary import Party
from tether.net.clock import Clock, SystemClock
from tether.net.link.driver import LinkDriver
from tether.net.tasks import Tasks
from tether.net.transport.streams import MessageStream
from tether.net.transport.ws_client import ClientStream, dial
from tether.net.tunnel.relay_dial import dial_relay
from tether.protocol.link.link import Link
from tether.protocol.messages.base import FactRecord, Message
from tether.protocol.messages.codec import MAX_CONTROL_MESSAGE, PROTOCOL, decode, encode
from tether.protocol.messages.control import EndConnections, Goodbye, Hello, Welcome
from tether.protocol.messages.derp import DerpMap
from tether.protocol.messages.reports import Ended, Opened, Report, ReportAck, ReportItem
from tether.protocol.messages.tunnel import TunnelDenied, TunnelGrant, TunnelOffer, TunnelRequest
from tether.protocol.timestamp import Timestamp
from tether.run.server import DATABASE_FILE, Server
from tether.server.db.tables.accounts import Role
from tether.server.identity import Identity
from tether.server.settings import Graces, LinkTimes, ServerSettings

M = TypeVar("M", bound=Message)


class AheadClock:
    """The real clock, `ahead` by some seconds."""

    ahead = 0.0

    def now(self) -> Timestamp:
        now = SystemClock().now()
        return Timestamp(mono=now.mono + self.ahead, wall=now.wall + self.ahead)


def device_key() -> str:
    """A fresh device's public key."""
    return asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()


HOST_KEY = device_key()


@contextlib.asynccontextmanager
async def running(
    tmp_path: Path, clock: Clock | None = None, **settings: Any
) -> AsyncIterator[LiveServer]:
    """A server over `tmp_path`, stopped in order at the end."""
    settings = {
        "port": 0,
        "link_times": LinkTimes(hello_s=DEADLINE_S),
        "graces": Graces(report_s=0.2, agent_s=0.2, silent_s=0.4, restart_s=0.2),
        **settings,
    }
    put_empty(tmp_path / DATABASE_FILE)
    server = await Server.start(
        ServerSettings(data_dir=tmp_path, **settings), clock or SystemClock()
    )
    live = LiveServer(server)
    try:
        yield live
    finally:
        for peer in live.peers:
            await peer.vanish()
        if not live.stopped:
            await server.stop("test")
        await server.served


@dataclass
class LiveServer:
    """A running server and the peers that a test made."""

    server: Server
    peers: list[Peer] = field(default_factory=list)
    stopped: bool = False
    host: str = "127.0.0.1"

    @property
    def read(self) -> LogReader:
        """The connection log as the API shows it."""
        return LogReader(self.server.store, SystemClock())

    @property
    def control_url(self) -> str:
        return f"ws://{self.host}:{self.port}/api/v1/control"

    @property
    def port(self) -> int:
        return self.server.port

    async def stop(self, actor: str = "signal:15 from pid 1 uid 0") -> None:
        self.stopped = True
        await self.server.stop(actor)

    async def workspace(self, name: str = "dev", owner: Identity = ADMIN) -> tuple[str, str]:
        """A new workspace: its id and its agent's token."""
        created = await self.server.workspaces.create(name, owner)
        return created.workspace_id, created.agent_token

    async def user(self, name: str) -> tuple[Identity, str]:
        """A new member and a token of theirs."""
        issued = await self.server.accounts.create_user(name, Role.MEMBER, ADMIN)
        return Identity(kind="user", user=name, role="member"), issued.token

    async def admin_token(self) -> str:
        return (await self.server.accounts.issue_token("admin", "test")).token

    async def agent(self, token: str, **hello: Any) -> Peer:
        """An agent that was welcomed."""
        peer = await Peer.dial(self, token, Party.AGENT, **hello)
        await peer.welcomed()
        return peer

    async def client(self, token: str | None = None, **hello: Any) -> Peer:
        """A client that was welcomed; an administrator's without a token."""
        peer = await Peer.dial(self, token or await self.admin_token(), Party.CLIENT, **hello)
        await peer.welcomed()
        return peer

    async def rows(self, **filters: Any) -> list[dict[str, Any]]:
        """The connection log, newest first."""
        return await self.read.connections(**filters)

    async def row(self, connection_id: str) -> dict[str, Any]:
        """One connection, explained."""
        return await self.read.explain(connection_id)

    async def closed(self, connection_id: str) -> dict[str, Any]:
        """The row once it is closed."""
        left = await self.server.connections.wait_closed([connection_id], DEADLINE_S)
        assert not left, "the row was not closed in time"
        return await self.row(connection_id)


class Peer:
    """A client or an agent, as far as its control link."""

    def __init__(self, live: LiveServer, stream: ClientStream, party: Party, hello: Hello) -> None:
        self.live, self.stream, self.party, self.hello = live, stream, party, hello
        self.inbox: asyncio.Queue[Message] = asyncio.Queue()
        self.last_order: EndConnections | None = None
        self.maps: asyncio.Queue[Message] = asyncio.Queue()
        self.tasks = Tasks(f"test-{party}")
        clock = SystemClock()
        self.link = Link(me=party, peer=Party.SERVER, now=clock.now())
        self.driver = LinkDriver(
            stream=stream,
            link=self.link,
            clock=clock,
            pack=encode,
            unpack=decode,
            deliver=self._deliver,
        )
        self.run: asyncio.Task[Any] | None = None
        self.welcome: Welcome
        self.seq = 0
        live.peers.append(self)

    def _deliver(self, message: Message) -> None:
        """Maps come whenever they change: they are kept aside, so that the rest is in order."""
        (self.maps if isinstance(message, DerpMap) else self.inbox).put_nowait(message)

    @classmethod
    async def dial(cls, live: LiveServer, token: str, party: Party, **hello: Any) -> Peer:
        """Dial and greet."""
        stream = await dial(live.control_url, token=token, max_size=MAX_CONTROL_MESSAGE)
        said: dict[str, Any] = {
            "protocol": PROTOCOL,
            "role": str(party),
            "version": "test",
            "instance_id": uuid.uuid4().hex,
            "hostname": "testhost",
        }
        if party is Party.AGENT:
            said |= {"journal_id": uuid.uuid4().hex, "ssh_host_key": HOST_KEY}
        peer = cls(live, stream, party, Hello(**{**said, **hello}))
        await stream.send(encode(peer.hello))
        return peer

    async def welcomed(self) -> Welcome:
        """Take the server's answer, then run the link."""
        raw = await asyncio.wait_for(self.stream.recv(), DEADLINE_S)
        assert isinstance(raw, bytes)
        answer = decode(raw)
        assert isinstance(answer, Welcome), answer
        self.welcome = answer
        self.start()
        return answer

    def start(self) -> None:
        """Run the link."""
        self.run = self.tasks.spawn(self.driver.run(), "link")

    @property
    def connection_id(self) -> str:
        return self.welcome.connection_id

    def send(self, message: Message) -> None:
        self.driver.send(message)

    async def expect(self, kind: type[M]) -> M:
        """The next message, which must be of this kind. An order to end connections may come again, of
        whoever else finds the withdrawal."""
        message = await asyncio.wait_for(self.inbox.get(), DEADLINE_S)
        while not isinstance(message, kind) and message == self.last_order:
            message = await asyncio.wait_for(self.inbox.get(), DEADLINE_S)
        assert isinstance(message, kind), message
        if isinstance(message, EndConnections):
            self.last_order = message
        return message

    async def over(self) -> Goodbye | None:
        """Wait until the link is over; the server's goodbye, if it said one."""
        assert self.run is not None
        await asyncio.wait_for(asyncio.shield(self.run), DEADLINE_S)
        goodbyes = []
        while not self.inbox.empty():
            message = self.inbox.get_nowait()
            goodbyes += [message] if isinstance(message, Goodbye) else []
        return goodbyes[-1] if goodbyes else None

    async def vanish(self) -> None:
        """End at once, without a word."""
        self.stream._ws.transport.abort()
        await self.tasks.cancel()

    # -- what agents and clients do ---------------------------------------------------------

    async def report(self, *items: ReportItem, first_seq: int | None = None) -> int:
        """Report items; the acknowledged number."""
        first = self.seq + 1 if first_seq is None else first_seq
        self.seq = first + len(items) - 1
        journal_id = self.hello.journal_id or self.hello.instance_id
        self.send(Report(journal_id=journal_id, first_seq=first, items=list(items)))
        return (await self.expect(ReportAck)).seq

    async def request(
        self,
        workspace: str = "dev",
        public_key: str | None = None,
        request_id: int = 1,
        **more: Any,
    ) -> TunnelGrant | TunnelDenied:
        """Ask for a tunnel."""
        self.send(
            TunnelRequest(
                request_id=request_id,
                workspace=workspace,
                public_key=device_key() if public_key is None else public_key,
                **more,
            )
        )
        answer = await asyncio.wait_for(self.inbox.get(), DEADLINE_S)
        assert isinstance(answer, TunnelGrant | TunnelDenied), answer
        return answer


@dataclass
class JoinedTunnel:
    """Both legs of a tunnel, joined."""

    connection_id: str
    client: MessageStream
    agent: MessageStream
    grant: TunnelGrant


async def join(client: Peer, agent: Peer, workspace: str = "dev") -> JoinedTunnel:
    """A tunnel from `client` to `agent`, through the relay."""
    grant = await client.request(workspace)
    assert isinstance(grant, TunnelGrant), grant
    offer = await agent.expect(TunnelOffer)
    assert offer.connection_id == grant.connection_id
    legs = await asyncio.gather(
        dial_relay(grant.relay_url, grant.ticket), dial_relay(offer.relay_url, offer.ticket)
    )
    # whoever says it first, the relay or the agent: from now on the row is ongoing
    await agent.report(Opened(connection_id=grant.connection_id, at=0.0))
    return JoinedTunnel(grant.connection_id, *legs, grant=grant)


def ended(connection_id: str, *facts: FactRecord, at: float | None = None, **more: Any) -> Ended:
    """A report of an end, by default of now."""
    when = SystemClock().now().wall if at is None else at
    return Ended(connection_id=connection_id, at=when, facts=list(facts), **more)
