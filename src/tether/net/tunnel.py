"""One end of a tunnel over a DERP relay: dial with a ticket, wait for the other leg, then run a link.

Law: both client and agent use exactly this. The relay's words become facts here; tunnel bytes are
handed over as they come. A tunnel has no application keepalive: a client that is stopped by Ctrl-Z
or whose terminal is paused stays attached. A dead leg is noticed by what the kernels at its two ends
count: the relay watches its legs, and each end its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tether.attribution import evidence as ev
from tether.attribution.causes import PROTOCOL_ERRORS
from tether.attribution.disconnect import CloseCell
from tether.attribution.vocabulary import Party, StreamEnd, Vantage
from tether.net.clock import Clock
from tether.net.driver import LinkDriver
from tether.net.streams import DialFailed, MessageStream, StreamLost
from tether.net.surroundings import Surroundings
from tether.net.tcp_info import is_stalled
from tether.net.ws_client import dial
from tether.protocol.frames import control_frame, data_frames, parse_frame
from tether.protocol.link import Link
from tether.protocol.messages import (
    MAX_TUNNEL_FRAME,
    PROTOCOL,
    Garbage,
    HalfClose,
    Message,
    TunnelHello,
)
from tether.protocol.relaying import Paired, PeerGone, RelayGoodbye, decode_word

PAIRING_TIMEOUT_S = 20.0
"""How long the other leg may take; a little longer than the relay itself waits."""

WATCH_EVERY_S = 5.0
"""How often the kernel is asked whether the relay still acknowledges what we send."""


class TunnelEnd:
    """Bytes in and out, half-close, control messages, and one cell that says why it ended."""

    def __init__(
        self,
        stream: MessageStream,
        *,
        me: Party,
        peer: Party,
        clock: Clock,
        version: str,
        on_data: Callable[[memoryview], Awaitable[None] | None],
        on_half_close: Callable[[], None],
        on_message: Callable[[Message], None],
        surroundings: Surroundings | None = None,
    ) -> None:
        """`on_data` may return an awaitable: nothing more is read until it is done. `surroundings`
        tells what happened to this machine when the stream is lost."""
        self._me, self._version, self._clock = me, version, clock
        self._peer, self._stream = peer, stream
        self._loop = asyncio.get_running_loop()
        self._watch_timer: asyncio.TimerHandle | None = None
        self._stalled_checks = 0
        self._on_half_close, self._on_message = on_half_close, on_message
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
            on_text=self._relay_said,
            lost_peer=Party.RELAY,
            surroundings=surroundings,
        )

    @property
    def cell(self) -> CloseCell:
        """What is known about this tunnel's end."""
        return self.driver.cell

    async def run(self) -> CloseCell:
        """Run until the tunnel is over."""
        self.driver.send(TunnelHello(protocol=PROTOCOL, party=str(self._me), version=self._version))
        self._watch_later()
        try:
            return await self.driver.run()
        finally:
            if self._watch_timer is not None:
                self._watch_timer.cancel()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes; follow with `drain` where much is written."""
        self.tx_bytes += len(data)
        for frame in data_frames(data):
            self.driver.write(frame)

    async def drain(self) -> None:
        """Wait until there is room to send more."""
        await self.driver.drain()

    def half_close(self) -> None:
        """Say that no more bytes follow in this direction."""
        self.driver.send(HalfClose())

    def send(self, message: Message) -> None:
        """Send a control message to the other end."""
        self.driver.send(message)

    def _watch_later(self) -> None:
        self._watch_timer = self._loop.call_later(WATCH_EVERY_S, self._watch)

    def _watch(self) -> None:
        """Twice stalled is silent: one look may hit the moment between a probe and its answer."""
        self._watch_later()
        counters = self._stream.counters()
        self._stalled_checks = self._stalled_checks + 1 if is_stalled(counters) else 0
        if counters is not None and self._stalled_checks == 2:
            self.driver.give_up(
                StreamLost(
                    StreamEnd.SILENT,
                    counters=counters,
                    silence_s=counters["last_ack_recv_ms"] / 1000,
                )
            )

    def _data(self, data: memoryview) -> Awaitable[None] | None:
        self.rx_bytes += len(data)
        return self._sink(data)

    def _deliver(self, message: Message) -> None:
        match message:
            case TunnelHello(protocol=(major, _)) if major != PROTOCOL[0]:
                self.driver.violated(f"tunnel protocol {major}, this version speaks {PROTOCOL[0]}")
            case TunnelHello():
                pass
            case HalfClose():
                self._on_half_close()
            case _:
                self._on_message(message)

    def _relay_said(self, text: str) -> None:
        at = self._clock.now().wall
        try:
            word = decode_word(text)
        except Garbage as garbage:  # the relay's, not the other end's: that one never sends text
            raving = ev.ProtocolViolated(
                vantage=Vantage(str(self._me)), at=at, by=Party.RELAY, what=str(garbage)
            )
            self.driver.leave_because(raving, cause=PROTOCOL_ERRORS[Party.RELAY])
            return
        match word:
            case PeerGone(how=how, errno=name, close_code=code, silence_s=silence):
                known = how in StreamEnd._value2member_map_
                self.driver.cut(
                    ev.StreamEnded(
                        vantage=Vantage.RELAY,
                        at=at,
                        peer=self._peer,
                        how=StreamEnd(how) if known else StreamEnd.OTHER,
                        errno=name,
                        close_code=code,
                        silence_s=silence,
                    )
                )
            case RelayGoodbye(cause=cause, actor=actor, detail=detail):
                self.driver.cut(
                    ev.GoodbyeSaid(
                        vantage=Vantage.RELAY,
                        at=at,
                        by=Party.RELAY,
                        cause=cause,
                        actor=actor,
                        detail=detail,
                    )
                )
            case _:
                pass


async def dial_relay(url: str, ticket: str) -> MessageStream:
    """Dial one leg and wait until the other leg is there.

    Raises:
        DialFailed: the relay could not be reached, refused the ticket, or the other leg did not come.
    """
    stream = await dial(url, token=ticket, max_size=MAX_TUNNEL_FRAME)
    try:
        async with asyncio.timeout(PAIRING_TIMEOUT_S):
            while True:
                raw = await stream.recv()
                if not isinstance(raw, str):
                    raise DialFailed("the relay sent data before it had paired the tunnel")
                match decode_word(raw):
                    case Paired():
                        return stream
                    case RelayGoodbye(detail=detail, cause=cause):
                        raise DialFailed(detail or "the relay refused the tunnel", cause=cause)
                    case PeerGone():
                        raise DialFailed("the other end of the tunnel left before it was joined")
    except TimeoutError:
        await stream.close(1001, "not paired in time")
        raise DialFailed("the other end of the tunnel did not come to the relay in time") from None
    except StreamLost as lost:
        raise DialFailed(f"the relay ended the tunnel before it was joined: {lost}") from lost
    except Garbage as garbage:
        await stream.close(1002, "not a relay's word")
        raise DialFailed(f"the relay does not speak this protocol: {garbage}") from garbage
    except BaseException:
        await stream.close(1001, "not joined")
        raise
