"""A network in memory: a cable with two ends, and the ways in which real cables fail.

Law: each end is a `tether.net.transport.streams.MessageStream` and raises `StreamLost` as
`ClientStream` and `ServerStream` do; `tests/unit/net/transport/test_stream_contract.py` holds
cable and real sockets to one contract. Messages keep their order. What one end sends and the other
does not read fills the window, and then `send` waits, as TCP's does.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque

from tether.attribution.vocabulary import StreamEnd
from tether.net.transport.streams import MessageStream, StreamLost

IDLE_COUNTERS = {
    "retransmits": 0,
    "probes": 0,
    "unacked": 0,
    "total_retrans": 0,
    "last_data_recv_ms": 46_000,
    "last_ack_recv_ms": 900,
    "pmtu": 1500,
    "rtt_us": 400,
}
"""TCP_INFO of a peer whose kernel lives and whose process says nothing."""


class Cable:
    """Two ends, `left` and `right`, and `delay` seconds between them."""

    def __init__(self, *, delay: float = 0.01, window: int = 64 << 10) -> None:
        to_left, to_right = _Wire(delay, window), _Wire(delay, window)
        self.left = CableEnd(sends=to_right, reads=to_left)
        self.right = CableEnd(sends=to_left, reads=to_right)
        self._wires = (to_left, to_right)

    def go_silent(self, *, towards: CableEnd | None = None) -> None:
        """Packets vanish, in one direction or in both; neither end is told."""
        for wire in self._wires if towards is None else (towards.reads,):
            wire.silent = True

    def heal(self) -> None:
        """Packets pass again, the lost ones first: TCP repeats them."""
        for wire in self._wires:
            wire.silent = False
            wire.deliver_what_is_due()

    def reset(self) -> None:
        """RST to both ends, at once; what was under way is lost."""
        for end in (self.left, self.right):
            end.lose(StreamLost(StreamEnd.RESET, errno_name="ECONNRESET"))

    def die(self, end: CableEnd) -> None:
        """The process at `end` is killed: the other end reads what is under way, then a FIN."""
        end.sends.put(StreamLost(StreamEnd.EOF))

    def kernel_gives_up(self, end: CableEnd) -> None:
        """The kernel at `end` has retransmitted for long enough."""
        end.lose(StreamLost(StreamEnd.TIMED_OUT, errno_name="ETIMEDOUT"))


class CableEnd(MessageStream):
    """One end."""

    def __init__(self, *, sends: _Wire, reads: _Wire) -> None:
        self.sends, self.reads = sends, reads
        self.tcp: dict[str, int] | None = None
        self.closed: tuple[int, str] | None = None
        self.raises: dict[str, Exception] = {}
        """What "send", "recv" and "close" raise instead of working: what no table foresees."""
        self._lost: StreamLost | None = None

    async def send(self, message: bytes | str) -> None:
        self._break("send")
        await self.sends.room()
        if self._lost is not None:
            raise self._lost
        self.sends.put(message)

    async def recv(self) -> bytes | str:
        self._break("recv")
        item = await self.reads.get()
        if isinstance(item, StreamLost):
            item.counters = self.tcp
            self.lose(item)
            raise item
        return item

    async def close(self, code: int, reason: str) -> None:
        self._break("close")
        if self._lost is None:
            self.closed = (code, reason)
            self.sends.put(StreamLost(StreamEnd.CLOSED, close_code=code, close_reason=reason))
            self.lose(StreamLost(StreamEnd.CLOSED, close_code=code))

    def counters(self) -> dict[str, int] | None:
        return self.tcp

    def _break(self, operation: str) -> None:
        if operation in self.raises:
            raise self.raises[operation]

    def lose(self, lost: StreamLost) -> None:
        """From now on this end raises `lost`."""
        if self._lost is None:
            self._lost = lost
            lost.counters = self.tcp
            self.reads.end(lost)
            self.sends.let_go()


class _Wire:
    """One direction. What waits to be read counts against the window."""

    def __init__(self, delay: float, window: int) -> None:
        self.silent = False
        self._loop = asyncio.get_running_loop()
        self._delay, self._window = delay, window
        self._unread = 0
        self._room = asyncio.Event()
        self._room.set()
        self._due = 0
        self._flying: deque[bytes | str | StreamLost] = deque()
        self._arrived: deque[bytes | str | StreamLost] = deque()
        self._something = asyncio.Event()
        self._ended: StreamLost | None = None

    async def room(self) -> None:
        """Wait until the window is open, or the sender's end is lost."""
        await self._room.wait()

    def let_go(self) -> None:
        """The sender's end is lost: nobody waits for room any more."""
        self._window = sys.maxsize
        self._room.set()

    def put(self, item: bytes | str | StreamLost) -> None:
        self._count(item, +1)
        self._flying.append(item)
        self._loop.call_later(self._delay, self._arrive)

    def _arrive(self) -> None:
        self._due += 1
        self.deliver_what_is_due()

    def deliver_what_is_due(self) -> None:
        while self._due and not self.silent:
            self._due -= 1
            self._arrived.append(self._flying.popleft())
            self._something.set()

    async def get(self) -> bytes | str | StreamLost:
        while not self._arrived:
            if self._ended is not None:
                return self._ended
            self._something.clear()
            await self._something.wait()
        item = self._arrived.popleft()
        self._count(item, -1)
        return item

    def end(self, lost: StreamLost) -> None:
        """The reader reads no more: a local close, a reset, or the kernel's verdict."""
        self._ended = lost
        self._arrived.clear()
        self._something.set()

    def _count(self, item: bytes | str | StreamLost, sign: int) -> None:
        if not isinstance(item, StreamLost):
            self._unread += sign * len(item)
            (self._room.set if self._unread < self._window else self._room.clear)()
