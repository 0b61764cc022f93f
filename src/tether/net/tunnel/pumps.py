"""Pumps: what moves frames between a tunnel and the stream of one of its carriers.

Law: decides nothing and queues nothing. A pump asks for the next frame whenever its stream has room,
hands on at once what arrives, and says once how its stream ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from tether.attribution.vocabulary import ConnectionMethod, Party, StreamEnd
from tether.net.tasks import Tasks
from tether.net.transport.direct import DirectStream
from tether.net.transport.streams import MessageStream, StreamLost, unforeseen_loss
from tether.net.transport.tcp import STALLED_CHECKS, is_stalled
from tether.net.unexpected import unexpected
from tether.protocol.messages.codec import MAX_TUNNEL_FRAME

WATCH_EVERY_S = 5.0
"""How often the kernel is asked whether the other side of a carrier still acknowledges."""

LAST_FRAME_S = 1.0
"""How long the last frame of a carrier, a refusal, may take to leave."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachedCarrier:
    """An open stream that carries a tunnel, or will."""

    number: int
    """Counts the carriers of the tunnel, from 1."""
    method: ConnectionMethod
    where: str
    """The DERP region, or the endpoint."""
    stream: MessageStream
    peer: Party
    """Who is at the other end of the stream itself: a relay, or the tunnel's other end."""


class PumpOwner(Protocol):
    """What a pump asks and tells."""

    def outgoing(self, number: int) -> tuple[bytes, bytes] | None:
        """The next frame for a carrier, in two parts; None if there is none."""

    def arrived(self, number: int, raw: bytes | memoryview | str) -> None:
        """Something arrived on a carrier."""

    def lost(self, number: int, lost: StreamLost) -> None:
        """The stream of a carrier has ended."""

    def progressed(self) -> None:
        """A pump that was busy has sent something."""


class CarrierPump(Protocol):
    """One carrier at work."""

    carrier: AttachedCarrier
    heard_at: float | None
    """When (monotonic seconds) something last arrived; kept by its owner."""
    stalled_checks: int
    """How many checks in a row have found it stalled; kept by `PumpWatch`."""

    def start(self) -> None:
        """Begin to read."""

    def flush(self) -> None:
        """There may be something to send."""

    @property
    def busy(self) -> bool:
        """Whether something still waits for room in the stream."""

    async def close(self, code: int, why: str, last: bytes = b"") -> None:
        """Send `last`, then close the stream. Nothing more is handed on."""


class InlinePump:
    """For a direct stream, which calls back: needs no tasks."""

    def __init__(self, carrier: AttachedCarrier, stream: DirectStream, owner: PumpOwner) -> None:
        self.carrier = carrier
        self.heard_at: float | None = None
        self.stalled_checks = 0
        self._stream = stream
        self._owner = owner

    def start(self) -> None:
        number, owner = self.carrier.number, self._owner
        self._stream.max_size = max(self._stream.max_size, MAX_TUNNEL_FRAME)
        self._stream.attend(
            on_message=lambda raw: owner.arrived(number, raw),
            on_lost=lambda lost: owner.lost(number, lost),
            on_room=self._has_room,
        )

    def flush(self) -> None:
        stream, owner, number = self._stream, self._owner, self.carrier.number
        while stream.room and (parts := owner.outgoing(number)) is not None:
            stream.write(*parts)

    @property
    def busy(self) -> bool:
        return not self._stream.room

    async def close(self, code: int, why: str, last: bytes = b"") -> None:
        if last and self._stream.room:
            self._stream.write(last)
        await self._stream.close(code, why)

    def _has_room(self) -> None:
        self.flush()
        self._owner.progressed()


class TaskPump:
    """For any other stream: one task reads, one writes."""

    def __init__(self, carrier: AttachedCarrier, owner: PumpOwner, tasks: Tasks) -> None:
        self.carrier = carrier
        self.heard_at: float | None = None
        self.stalled_checks = 0
        self._stream = carrier.stream
        self._owner = owner
        self._tasks = tasks
        self._wake = asyncio.Event()  # there may be something to send
        self._running: list[asyncio.Task[None]] = []
        self._sending = False  # a frame waits for room

    def start(self) -> None:
        name = f"carrier-{self.carrier.number}"
        self._running = [
            self._tasks.spawn(self._read(), f"{name}-read"),
            self._tasks.spawn(self._write(), f"{name}-write"),
        ]

    def flush(self) -> None:
        self._wake.set()

    @property
    def busy(self) -> bool:
        return self._sending or self._wake.is_set()

    async def close(self, code: int, why: str, last: bytes = b"") -> None:
        for task in self._running:
            task.cancel()
        if last:
            try:
                async with asyncio.timeout(LAST_FRAME_S):
                    await self._stream.send(last)
            except (TimeoutError, StreamLost):
                pass
            except Exception as wrong:
                unexpected("a carrier's last frame", wrong)
        try:
            await self._stream.close(code, why)
        except Exception as wrong:
            unexpected("a carrier's close", wrong)

    async def _read(self) -> None:
        try:
            while True:
                self._owner.arrived(self.carrier.number, await self._stream.recv())
        except Exception as wrong:
            self._lost(wrong)

    async def _write(self) -> None:
        try:
            await self._write_on()
        except Exception as wrong:
            self._lost(wrong)

    def _lost(self, wrong: Exception) -> None:
        """The stream has ended, or cannot go on: what nobody foresaw costs this carrier only."""
        if not isinstance(wrong, StreamLost):
            unexpected("a carrier", wrong)
            wrong = unforeseen_loss(wrong)
        self._owner.lost(self.carrier.number, wrong)

    async def _write_on(self) -> None:
        number = self.carrier.number
        while True:
            self._wake.clear()
            while (parts := self._owner.outgoing(number)) is not None:
                self._sending = True
                await self._stream.send(b"".join(parts))
                self._sending = False
                self._owner.progressed()
            self._owner.progressed()
            await self._wake.wait()


def pump_for(carrier: AttachedCarrier, owner: PumpOwner, tasks: Tasks) -> CarrierPump:
    """The pump for a carrier's kind of stream."""
    if isinstance(carrier.stream, DirectStream):
        return InlinePump(carrier, carrier.stream, owner)
    return TaskPump(carrier, owner, tasks)


class PumpWatch:
    """Asks the kernel how the carriers are, for a peer that is gone acknowledges nothing."""

    def __init__(
        self, pumps: Mapping[int, CarrierPump], lost: Callable[[int, StreamLost], None]
    ) -> None:
        """`lost` is called for each of `pumps` that is found to be silent."""
        self._pumps = pumps
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to check, unless that has begun already."""
        if self._timer is None:
            self._timer = self._loop.call_later(WATCH_EVERY_S, self._check)

    def stop(self) -> None:
        """Check no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _check(self) -> None:
        self._timer = self._loop.call_later(WATCH_EVERY_S, self._check)
        for number, pump in list(self._pumps.items()):
            counters = pump.carrier.stream.counters()
            pump.stalled_checks = pump.stalled_checks + 1 if is_stalled(counters) else 0
            if counters is not None and pump.stalled_checks >= STALLED_CHECKS:
                silence_s = counters["last_ack_recv_ms"] / 1000
                self._lost(
                    number, StreamLost(StreamEnd.SILENT, counters=counters, silence_s=silence_s)
                )
