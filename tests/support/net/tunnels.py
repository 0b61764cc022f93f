"""Tunnels over cables and loopback sockets: two resumable streams, and carriers between them."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from tests.support.net.cable import Cable
from tether.attribution.vocabulary import ConnectionMethod, Party
from tether.net.clock import Clock
from tether.net.transport.direct import DirectStream
from tether.net.transport.streams import MessageStream
from tether.net.tunnel.stream import AttachedCarrier, TunnelStream
from tether.protocol.tunnel.events import CarrierUp, Detached, PathEvent
from tether.protocol.tunnel.join import TunnelKey
from tether.protocol.tunnel.resume_policy import Waits

KEY_TEXT = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
KEY = TunnelKey.read(KEY_TEXT)


def relayed(number: int, stream: MessageStream, where: str = "local") -> AttachedCarrier:
    """A carrier as a relay's leg."""
    return AttachedCarrier(
        number=number,
        method=ConnectionMethod.DERP,
        where=where,
        stream=stream,
        peer=Party.RELAY,
    )


def direct(number: int, stream: MessageStream, peer: Party) -> AttachedCarrier:
    """A carrier as a connection of client and agent."""
    return AttachedCarrier(
        number=number,
        method=ConnectionMethod.DIRECT,
        where="192.0.2.1:9",
        stream=stream,
        peer=peer,
    )


def resumable(
    me: Party, clock: Clock, *, connection_id: str = "c1", waits: Waits | None = None
) -> TunnelStream:
    return TunnelStream(me=me, connection_id=connection_id, key=KEY, clock=clock, waits=waits)


def client_over(
    stream: MessageStream, clock: Clock, *, connection_id: str = "c1", waits: Waits | None = None
) -> TunnelStream:
    """A client's stream that uses its one carrier as soon as it is up."""
    made = resumable(Party.CLIENT, clock, connection_id=connection_id, waits=waits)
    use_the_first(made)
    made.add(relayed(1, stream))
    return made


def use_the_first(stream: TunnelStream) -> None:
    """Use whatever carrier is up while none is in use."""

    def choose() -> None:
        if not stream.in_use:
            stream.use(next(iter(stream.carriers()), 0))

    def happened(event: PathEvent) -> None:
        if isinstance(event, CarrierUp | Detached):
            asyncio.get_running_loop().call_soon(choose)

    stream.listen(happened)


def agent_over(
    stream: MessageStream, clock: Clock, *, connection_id: str = "c1", waits: Waits | None = None
) -> TunnelStream:
    """An agent's stream with one carrier."""
    made = resumable(Party.AGENT, clock, connection_id=connection_id, waits=waits)
    made.add(relayed(1, stream))
    return made


class Joined:
    """Two streams with `cables` between them, by number. Events are kept."""

    def __init__(self, clock: Clock, *, waits: Waits | None = None, **cable: Any) -> None:
        self._cable = cable
        self.client = resumable(Party.CLIENT, clock, waits=waits)
        self.agent = resumable(Party.AGENT, clock, waits=waits)
        self.at_client: list[PathEvent] = []
        self.at_agent: list[PathEvent] = []
        self.client.listen(self.at_client.append)
        self.agent.listen(self.at_agent.append)
        use_the_first(self.client)
        self.cables: dict[int, Cable] = {}

    def relay(self, number: int) -> Cable:
        """A further carrier as a relay's; the client's end of its cable is the left one."""
        cable = self.cables[number] = Cable(**self._cable)
        self.agent.add(relayed(number, cable.right))
        self.client.add(relayed(number, cable.left))
        return cable

    def cable(self, number: int) -> Cable:
        """A further carrier as a direct one."""
        cable = self.cables[number] = Cable(**self._cable)
        self.agent.add(direct(number, cable.right, Party.CLIENT))
        self.client.add(direct(number, cable.left, Party.AGENT))
        return cable

    async def sockets(self, number: int) -> tuple[DirectStream, DirectStream]:
        """A further carrier over a loopback socket: the client's stream and the agent's."""
        left, right = await direct_pair()
        self.agent.add(direct(number, right, Party.CLIENT))
        self.client.add(direct(number, left, Party.AGENT))
        return left, right

    async def close(self) -> None:
        await asyncio.gather(self.client.close(1001, ""), self.agent.close(1001, ""))


async def direct_pair() -> tuple[DirectStream, DirectStream]:
    """Two ends of one TCP connection over loopback."""
    one, other = await socket_pair()
    return DirectStream(one), DirectStream(other)


async def socket_pair() -> tuple[socket.socket, socket.socket]:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        one = socket.socket()
        one.setblocking(False)
        await loop.sock_connect(one, listening.getsockname())
        other, _ = await loop.sock_accept(listening)
        return one, other
