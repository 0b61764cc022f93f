"""A tunnel's stream: ordered messages over carriers that come and go, as a `MessageStream`.

Law: performs what the machine (`protocol/tunnel/tunnel.py`) says, and translates how carriers end
into facts. A frame that can leave leaves within the caller's turn, and one that arrives is handed
on within its own; nothing is queued but what the machine's window bounds. It ends with
`StreamLost` like any other stream: by the fact for which the tunnel was given up, or because the
peer has left.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable

from tether.attribution import evidence as ev
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import ConnectionMethod, Party, StreamEnd, Vantage
from tether.net.clock import Clock
from tether.net.link.evidence import fact_of_loss, fact_of_word, restart_of_word
from tether.net.tasks import Tasks
from tether.net.transport.streams import MessageStream, StreamLost
from tether.net.transport.tcp import counters_fact
from tether.net.tunnel.pumps import (
    AttachedCarrier as AttachedCarrier,
    CarrierPump,
    PumpWatch,
    leg_of,
)
from tether.protocol.tunnel.events import (
    CloseCarrier,
    Command,
    DeliverFrame,
    GaveUp,
    PathEvent,
    PeerLeft,
    RelayRestarting,
    Resumed,
    Used,
)
from tether.protocol.tunnel.join import Join, JoinRefused, TunnelKey
from tether.protocol.tunnel.resume_policy import Waits
from tether.protocol.tunnel.tunnel import Tunnel

SEND_AHEAD = 256 << 10
"""Bytes that may wait for the carrier in use. While detached, the window is the bound."""

FLUSH_S = 1.0
"""How long the last frames, and the word that they were the last, may take to leave."""

LEAST_WAIT_S = 0.001
"""A timer may ring a moment too early, and must not ring again at once."""

REMEMBERED = 64
"""Carriers whose counters are kept after their end."""

Sink = Callable[[memoryview], Awaitable[None] | None]


class TunnelStream(MessageStream):
    """See the module's law. Carriers are `add`ed; whoever is interested is told what happens."""

    outlives_connections = True

    def __init__(
        self,
        *,
        me: Party,
        connection_id: str,
        key: TunnelKey,
        clock: Clock,
        waits: Waits | None = None,
    ) -> None:
        self.connection_id = connection_id
        self._machine = Tunnel(me=me, connection_id=connection_id, key=key, waits=waits)
        self._vantage, self._clock = Vantage(str(me)), clock
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks(f"tunnel-{connection_id[:8]}")
        self._closing = Tasks(f"tunnel-{connection_id[:8]}-closing")
        self._listeners: list[Callable[[PathEvent], None]] = []
        self._legs: dict[int, CarrierPump] = {}
        self._known: dict[int, AttachedCarrier] = {}
        self._counters: dict[int, ev.TcpCounters] = {}
        self._heard_at: dict[int, float] = {}
        self.last_heard_at = clock.now().mono
        """When (monotonic seconds) any carrier last brought something."""
        self._waiting_since: float | None = None
        self._retiring: set[int] = set()
        self._last_used: AttachedCarrier | None = None
        self._inbox: deque[memoryview] = deque()
        self._sink: Sink | None = None
        self._busy = False
        self._pending: Awaitable[None] | None = None
        self._wake = asyncio.Event()
        self._progress: asyncio.Future[None] | None = None
        self._lost: StreamLost | None = None
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._watch = PumpWatch(self._legs, self.lost)

    # -- what can be asked -----------------------------------------------------------------

    @property
    def in_use(self) -> int:
        """The number of the carrier in use; 0 while detached."""
        return self._machine.in_use

    @property
    def unacked_bytes(self) -> int:
        """Bytes that the peer has not acknowledged."""
        return self._machine.unacked_bytes

    @property
    def over(self) -> bool:
        """Whether the tunnel was given up, or left."""
        return self._machine.over

    @property
    def method(self) -> ConnectionMethod:
        """Of the carrier in use, or the last that was."""
        return ConnectionMethod.NONE if self._last_used is None else self._last_used.method

    @property
    def heard_at(self) -> dict[int, float]:
        """When (monotonic seconds) each carrier last brought something."""
        return dict(self._heard_at)

    @property
    def waiting_since(self) -> float | None:
        """Since when something waits to be acknowledged, without any progress."""
        return self._waiting_since if self._machine.unacked_bytes else None

    def carriers(self) -> dict[int, AttachedCarrier]:
        """Those that are up, by number."""
        return {n: self._known[n] for n, up in self._machine.carriers.items() if up}

    def carrier(self, number: int) -> AttachedCarrier | None:
        """What a carrier was that an event tells of."""
        return self._known.get(number)

    def last_counters(self, number: int) -> ev.TcpCounters | None:
        """TCP_INFO of a carrier that has ended."""
        return self._counters.get(number)

    def judge(self, attach: Join) -> JoinRefused | None:
        """What speaks against a stream that was dialled to us and begins with `attach`."""
        return self._machine.judge(attach)

    def listen(self, listener: Callable[[PathEvent], None]) -> None:
        """Tell `listener` what happens, in order, as it happens."""
        self._listeners.append(listener)

    # -- carriers --------------------------------------------------------------------------

    def add(self, carrier: AttachedCarrier, first: bytes = b"") -> None:
        """Let an open stream carry the tunnel: it attaches (`CarrierUp` or `CarrierRefused` follows)
        and is at hand from then on. `first` is what was read from it already."""
        self._known[carrier.number] = carrier
        while len(self._known) > REMEMBERED:
            oldest = next(n for n in self._known if n not in self._legs)
            del self._known[oldest]
        leg = leg_of(carrier, self, self._tasks)
        commands = self._machine.opened(carrier.number, self._clock.now(), stream_to=carrier.peer)
        if commands:
            self._drop(leg, 1008, "not wanted")
            return
        self._legs[carrier.number] = leg
        self._watch.start()
        if first:
            self.arrived(carrier.number, first)
        if self._legs.get(carrier.number) is leg:
            leg.start()
            leg.flush()
        self._arm()

    def use(self, number: int) -> None:
        """Client: send on this carrier from now on."""
        self._retiring.discard(number)
        self._step(self._machine.use(number, self._clock.now()))

    def retire(self, number: int) -> None:
        """Close this carrier when the peer knows that its end is no event."""
        self._machine.retire(number)
        self._retiring.add(number)
        self._step([])
        self._close_retired()

    def ping(self, number: int) -> None:
        """Have the other end answer on this carrier (`Answered`)."""
        self._machine.ping(number, self._clock.now())
        if (leg := self._legs.get(number)) is not None:
            leg.flush()

    def peer_is_gone(self) -> None:
        """The server knows no more of the other end either: it is not waited for any longer."""
        self._step(self._machine.peer_is_gone())

    # -- as a MessageStream ------------------------------------------------------------------

    def send_now(self, message: bytes) -> bool:
        """Send a message if there is room; False if there is none (nothing was sent)."""
        machine = self._machine
        if self._lost is not None or not self._room():
            return False
        if not machine.unacked_bytes:
            self._waiting_since = self._clock.now().mono
        machine.send(message)
        if (leg := self._legs.get(machine.in_use)) is not None:
            leg.flush()
        return True

    async def send(self, message: bytes | str) -> None:
        data = message.encode() if isinstance(message, str) else message
        while not self.send_now(data):
            if self._lost is not None:
                raise self._lost
            await self._next_progress()

    async def recv(self) -> bytes:
        while not self._inbox:
            if self._lost is not None:
                raise self._lost
            self._wake.clear()
            await self._wake.wait()
        frame = self._inbox.popleft()
        self._took()
        return bytes(frame)

    async def serve(self, sink: Sink) -> None:
        """Hand every message to `sink` as it arrives. It may answer with an awaitable: nothing more
        is handed over until that is done. Ends with `StreamLost`, after the last message."""
        self._busy, self._sink = True, sink
        try:
            while True:
                if self._pending is not None:
                    waiting, self._pending = self._pending, None
                    await waiting
                    self._took()
                while self._inbox:
                    if (handling := sink(self._inbox.popleft())) is not None:
                        await handling
                    self._took()
                if self._lost is not None:
                    raise self._lost
                self._busy = False
                self._wake.clear()
                await self._wake.wait()
        finally:
            self._busy = True

    async def close(self, code: int, reason: str) -> None:
        """Say that nothing more will come, and close every carrier."""
        if not self._closed:
            self._closed = True
            if not self._machine.over:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(FLUSH_S):
                        await self._say_the_last()
            self._end(StreamEnd.CLOSED, close_code=code)
            for number in list(self._legs):
                self._drop(self._legs.pop(number), code, reason)
        self._watch.stop()
        if self._timer is not None:
            self._timer.cancel()
        await self._closing.wait(2 * FLUSH_S + 1.0)
        await self._closing.cancel()
        await self._tasks.cancel()

    def counters(self) -> dict[str, int] | None:
        """Of the carrier in use."""
        leg = self._legs.get(self._machine.in_use)
        return None if leg is None else leg.carrier.stream.counters()

    def counters_fact(self, *, vantage: Vantage, peer: Party, at: float) -> ev.TcpCounters | None:
        """Of the carrier in use, or of the last that was lost: about its own other end, not `peer`."""
        leg = self._legs.get(self._machine.in_use)
        if leg is None:
            return max(self._counters.values(), key=lambda c: c.at, default=None)
        stream = leg.carrier.stream
        return stream.counters_fact(vantage=vantage, peer=leg.carrier.peer, at=at)

    # -- what legs ask and tell (net.legs.LegOwner) ----------------------------------------------

    def outgoing(self, number: int) -> tuple[bytes, bytes] | None:
        return self._machine.outgoing(number)

    def arrived(self, number: int, raw: bytes | memoryview | str) -> None:
        if not isinstance(raw, str):
            now, unacked = self._clock.now(), self._machine.unacked_bytes
            self._heard_at[number] = self.last_heard_at = now.mono
            commands = self._machine.received(number, raw, now)
            if self._machine.unacked_bytes < unacked:
                self._waiting_since = now.mono
            self._step(commands)
            return
        at = self._clock.now().wall
        fact = fact_of_word(raw, vantage=self._vantage, other=self._machine.peer, at=at)
        if fact is not None:
            self._ended(number, fact, None)
        elif (seconds := restart_of_word(raw)) is not None:
            self._tell(RelayRestarting(number, seconds))

    def lost(self, number: int, lost: StreamLost) -> None:
        leg = self._legs.get(number)
        if leg is None:
            return
        fact = fact_of_loss(
            lost, vantage=self._vantage, peer=leg.carrier.peer, at=self._clock.now().wall
        )
        self._ended(number, fact, lost.counters)

    def progressed(self) -> None:
        if self._retiring:
            self._close_retired()
        if self._progress is not None:
            self._progress.set_result(None)
            self._progress = None

    # -- inside ------------------------------------------------------------------------------

    def _room(self) -> bool:
        machine = self._machine
        return machine.writable and (not machine.in_use or machine.unsent_bytes < SEND_AHEAD)

    def _step(self, commands: list[Command]) -> None:
        for command in commands:
            self._perform(command)
        for leg in list(self._legs.values()):
            leg.flush()
        if self._progress is not None and (self._lost is not None or self._room()):
            self.progressed()
        self._arm()

    def _perform(self, command: Command) -> None:
        match command:
            case DeliverFrame(frame=frame):
                self._hand_on(frame)
            case CloseCarrier(carrier=number, code=code, why=why, last=last):
                if (leg := self._legs.pop(number, None)) is not None:
                    self._drop(leg, code, why, last)
            case PeerLeft():
                self._end(StreamEnd.CLOSED, close_code=1000)
            case _:
                self._tell(command)

    def _tell(self, event: PathEvent) -> None:
        if isinstance(event, Used | Resumed):
            self._last_used = self._known[event.carrier]
            self.local_address = self._last_used.stream.local_address
        for listener in self._listeners:
            listener(event)
        if isinstance(event, GaveUp):
            self._end(StreamEnd.OTHER, fact=event.fact)

    def _hand_on(self, frame: memoryview) -> None:
        if self._sink is None or self._busy:
            self._inbox.append(frame)
            self._wake.set()
        elif (handling := self._sink(frame)) is None:
            self._machine.took(self._clock.now())
        else:
            self._busy, self._pending = True, handling
            self._wake.set()

    def _took(self) -> None:
        self._machine.took(self._clock.now())
        if (leg := self._legs.get(self._machine.in_use)) is not None:
            leg.flush()
        self._arm()

    def _ended(self, number: int, fact: Evidence, counters: dict[str, int] | None) -> None:
        leg = self._legs.pop(number, None)
        if leg is None:
            return
        seen = counters_fact(
            counters, vantage=self._vantage, peer=leg.carrier.peer, at=self._clock.now().wall
        )
        if seen is not None:
            self._counters[number] = seen
            while len(self._counters) > REMEMBERED:
                del self._counters[next(iter(self._counters))]
        self._drop(leg, 1000, "")
        self._step(self._machine.ended(number, fact, self._clock.now()))

    def _end(
        self, how: StreamEnd, *, close_code: int | None = None, fact: Evidence | None = None
    ) -> None:
        if self._lost is None:
            counters = self.counters_fact(
                vantage=self._vantage, peer=self._machine.peer, at=self._clock.now().wall
            )
            self._lost = StreamLost(how, close_code=close_code, fact=fact, counters_fact=counters)
            self._wake.set()
            self.progressed()

    def _drop(self, leg: CarrierPump, code: int, why: str, last: bytes = b"") -> None:
        self._retiring.discard(leg.carrier.number)
        self._heard_at.pop(leg.carrier.number, None)
        self._closing.spawn(leg.close(code, why, last), f"carrier-{leg.carrier.number}")

    def _close_retired(self) -> None:
        for number in list(self._retiring):
            leg = self._legs.get(number)
            if leg is None:
                self._retiring.discard(number)
            elif number != self._machine.in_use and self._machine.retired(number) and not leg.busy:
                del self._legs[number]
                self._drop(leg, 1000, "retired")
                retired = ev.StreamEnded(
                    vantage=self._vantage,
                    at=self._clock.now().wall,
                    peer=leg.carrier.peer,
                    how=StreamEnd.CLOSED,
                    close_code=1000,
                )
                self._step(self._machine.ended(number, retired, self._clock.now()))

    async def _say_the_last(self) -> None:
        while self._machine.in_use and not self._machine.flushed:
            await self._next_progress()
        self._machine.leave()
        for leg in self._legs.values():
            leg.flush()
        while any(leg.busy for leg in self._legs.values()):
            await self._next_progress()

    async def _next_progress(self) -> None:
        if self._progress is None:
            self._progress = self._loop.create_future()
        await asyncio.shield(self._progress)

    # -- time ----------------------------------------------------------------------------------

    def _arm(self) -> None:
        """An earlier timer is left as it is: a tick too many costs less than a timer a frame."""
        deadline = self._machine.deadline()
        if deadline is None or self._closed:
            return
        wait = max(LEAST_WAIT_S, deadline - self._clock.now().mono)
        if self._timer is not None:
            if self._timer.when() <= self._loop.time() + wait:
                return
            self._timer.cancel()
        self._timer = self._loop.call_later(wait, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._step(self._machine.tick(self._clock.now()))
