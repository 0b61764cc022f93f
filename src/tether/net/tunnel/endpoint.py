"""One end of a tunnel: a link with data, over a stream that outlives its carriers.

Law: both client and agent use exactly this. Tunnel bytes are handed over as they come; what happens to
carriers is noted in the cell, as context: none of it is an end. A tunnel has no application keepalive:
a client that is stopped by Ctrl-Z or whose terminal is paused stays attached.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tether.attribution.disconnect import CloseCell
from tether.attribution.vocabulary import Party, Vantage
from tether.net.clock import Clock
from tether.net.link.driver import LinkDriver
from tether.net.link.host_context import HostContext
from tether.net.tunnel.evidence import path_fact
from tether.net.tunnel.stream import TunnelStream
from tether.protocol.link.link import LINGER_S, Link
from tether.protocol.messages.base import Message
from tether.protocol.messages.codec import PROTOCOL
from tether.protocol.messages.tunnel import TunnelHello
from tether.protocol.tunnel.events import Detached, PathEvent, Resumed
from tether.protocol.tunnel.frames import control_frame, data_frames, parse_frame

DETACHED_LINGER_S = 0.5
"""How long a goodbye waits for a carrier that may be about to come."""


class TunnelEndpoint:
    """Bytes in and out, control messages, and one cell that says why it ended."""

    def __init__(
        self,
        stream: TunnelStream,
        *,
        me: Party,
        peer: Party,
        clock: Clock,
        version: str,
        on_data: Callable[[memoryview], Awaitable[None] | None],
        on_message: Callable[[Message], None],
        surroundings: HostContext | None = None,
    ) -> None:
        """`on_data` may return an awaitable: nothing more is read until it is done. `surroundings`
        tells what happened to this machine when the stream is lost."""
        self._me, self._version, self._clock = me, version, clock
        self.stream, self._vantage = stream, Vantage(str(me))
        self._on_message = on_message
        self.rx_bytes = self.tx_bytes = 0
        self._sink = on_data
        self.driver = LinkDriver(
            stream=stream,
            link=Link(me=me, peer=peer, now=clock.now()),
            clock=clock,
            pack=control_frame,
            unpack=parse_frame,
            deliver=self._deliver,
            on_data=self._data,
            prompt=stream,
            surroundings=surroundings,
            counters_of=stream.counters_fact,
        )
        stream.listen(self._happened)

    @property
    def cell(self) -> CloseCell:
        """What is known about this tunnel's end."""
        return self.driver.cell

    async def run(self) -> CloseCell:
        """Run until the tunnel is over."""
        self.driver.send(TunnelHello(protocol=PROTOCOL, party=str(self._me), version=self._version))
        return await self.driver.run()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes; follow with `drain` where much is written."""
        self.tx_bytes += len(data)
        for frame in data_frames(data):
            self.driver.write(frame)

    async def drain(self) -> None:
        """Wait until there is room to send more."""
        await self.driver.drain()

    def send(self, message: Message) -> None:
        """Send a control message to the other end."""
        self.driver.send(message)

    def _happened(self, event: PathEvent) -> None:
        match event:
            case Detached():  # nobody hears a goodbye; the server tells the other end of it
                self.driver.link.linger = DETACHED_LINGER_S
            case Resumed():
                self.driver.link.linger = LINGER_S
            case _:
                pass
        fact = path_fact(event, self.stream, vantage=self._vantage, at=self._clock.now().wall)
        if fact is not None and not self.cell.ended:
            self.cell.note(fact)

    def _data(self, data: memoryview) -> Awaitable[None] | None:
        self.rx_bytes += len(data)
        return self._sink(data)

    def _deliver(self, message: Message) -> None:
        match message:
            case TunnelHello(protocol=(major, _)) if major != PROTOCOL[0]:
                self.driver.violated(f"tunnel protocol {major}, this version speaks {PROTOCOL[0]}")
            case TunnelHello():
                pass
            case _:
                self._on_message(message)
