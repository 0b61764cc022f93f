"""One end of a tunnel: a link with data, over a stream that outlives its carriers.

Law: client and agent use exactly this. Tunnel bytes are handed over as they come. What happens to
carriers is noted in the cell as context, for none of it ends the tunnel. There are no keepalives
between the two programs, so that a client that is stopped by Ctrl-Z, or whose terminal is paused, stays
attached.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tether.attribution.disconnect import CloseCell
from tether.attribution.vocabulary import Party
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
"""How long a goodbye waits for a carrier while there is none."""


class TunnelEndpoint(LinkDriver):
    """A link driver that also carries bytes, and whose cell tells what happened to carriers."""

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
        host_context: HostContext | None = None,
    ) -> None:
        """
        Args:
            stream: the tunnel's stream, over whatever carriers it has.
            me: this end.
            peer: the other end.
            clock: the clock of the machines.
            version: the version of this program, which the peer is told.
            on_data: is handed the peer's bytes. It may return an awaitable: nothing more is read until
                that is done.
            on_message: is handed the peer's messages, except those that belong to the link itself.
            host_context: is asked what else happened to this machine when the stream is lost.
        """
        super().__init__(
            stream=stream,
            link=Link(me=me, peer=peer, now=clock.now()),
            clock=clock,
            deliver=self._received,
            pack=control_frame,
            unpack=parse_frame,
            on_data=self._received_data,
            host_context=host_context,
        )
        self.stream = stream
        self.rx_bytes = 0
        """Tunnel bytes that came from the peer."""
        self.tx_bytes = 0
        """Tunnel bytes that were sent to the peer."""
        self._version = version
        self._sink = on_data
        self._on_message = on_message
        stream.listen(self._happened)

    async def run(self) -> CloseCell:
        """Run until the tunnel is over."""
        self.send(TunnelHello(protocol=PROTOCOL, party=str(self.link.me), version=self._version))
        return await super().run()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes; follow with `drain` where much is written."""
        self.tx_bytes += len(data)
        for frame in data_frames(data):
            self.send_data(frame)

    def _happened(self, event: PathEvent) -> None:
        match event:
            case Detached():  # nobody hears a goodbye now; the server tells the peer
                self.link.linger = DETACHED_LINGER_S
            case Resumed():
                self.link.linger = LINGER_S
            case _:
                pass
        fact = path_fact(event, self.stream, vantage=self._vantage, at=self._clock.now().wall)
        if fact is not None and not self.cell.ended:
            self.cell.note(fact)

    def _received_data(self, data: memoryview) -> Awaitable[None] | None:
        self.rx_bytes += len(data)
        return self._sink(data)

    def _received(self, message: Message) -> None:
        match message:
            case TunnelHello(protocol=(major, _)) if major != PROTOCOL[0]:
                self.violated(f"tunnel protocol {major}, this version speaks {PROTOCOL[0]}")
            case TunnelHello():
                pass
            case _:
                self._on_message(message)
