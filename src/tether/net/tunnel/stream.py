"""A tunnel's stream: ordered messages over carriers that come and go, as a `MessageStream`.

Law: performs the commands of the machine (`protocol/tunnel/tunnel.py`), and turns the ends of carriers
into facts. A frame for which there is room leaves within the call that sends it, and one that arrives
is handed on within the callback that brings it. What is queued is bounded by the machine's window. The
stream ends with `StreamLost` like any other one: with the fact for which the tunnel was given up, or
because the peer has left.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tether.attribution import evidence as ev
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import ConnectionMethod, Party, StreamEnd, Vantage
from tether.net.clock import Clock
from tether.net.link.evidence import fact_of_loss, fact_of_word, restart_of_word
from tether.net.tasks import Tasks
from tether.net.transport.streams import MessageStream, StreamLost, unforeseen_loss
from tether.net.transport.tcp import counters_fact
from tether.net.tunnel.pumps import (
    AttachedCarrier as AttachedCarrier,
    CarrierPump,
    PumpWatch,
    pump_for,
)
from tether.net.unexpected import unexpected
from tether.protocol.tunnel.events import (
    Answered,
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
"""How long the last frames, and the one that says that they were the last, may take to leave."""

LEAST_WAIT_S = 0.001
"""The shortest timer: one that rang a moment too early must not ring again at once."""

FAILED_TICK_S = 1.0
"""When to look again after a tick that failed."""

REMEMBERED = 64
"""How many ended carriers are remembered, with their counters."""

FrameSink = Callable[[memoryview], Awaitable[None] | None]
"""Takes one frame. Where it returns an awaitable, the next frame waits until that is done."""


@dataclass(frozen=True, slots=True)
class _Ended:
    """A carrier that is no more."""

    carrier: AttachedCarrier
    counters: ev.TcpCounters | None


class TunnelStream(MessageStream):
    """Its owner adds carriers and retires them; listeners are told what happens to them."""

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
        """See `Tunnel`, whose arguments these are."""
        self.connection_id = connection_id
        self.last_heard_at = clock.now().mono  # when something last came on any carrier
        self._machine = Tunnel(me=me, connection_id=connection_id, key=key, waits=waits)
        self._vantage = Vantage(str(me))
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks(f"tunnel-{connection_id[:8]}")
        self._closing = Tasks(f"tunnel-{connection_id[:8]}-closing")
        self._listeners: list[Callable[[PathEvent], None]] = []
        self._pumps: dict[int, CarrierPump] = {}  # of the carriers that are here
        self._ended_ones: dict[int, _Ended] = {}  # the last carriers that are no more
        self._last_used: AttachedCarrier | None = None
        self._waiting_since: float | None = None  # see `waiting_since`
        self._inbox: deque[memoryview] = deque()  # frames that are not handed on yet
        self._sink: FrameSink | None = None  # of `serve`
        self._busy = False  # the sink is at work, or there is none yet
        self._handling: Awaitable[None] | None = None  # what the sink asked to be awaited
        self._wake = asyncio.Event()  # something happened that `serve` or `recv` waits for
        self._progress: asyncio.Future[None] | None = None  # for whoever waits for room
        self._lost: StreamLost | None = None  # how it ended
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._watch = PumpWatch(self._pumps, self.lost)

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
        """Whether the tunnel was given up or left."""
        return self._machine.over

    @property
    def method(self) -> ConnectionMethod:
        """How the carrier in use reaches the peer, or the last one that was in use."""
        return ConnectionMethod.NONE if self._last_used is None else self._last_used.method

    @property
    def heard_at(self) -> dict[int, float]:
        """When (monotonic seconds) something last came on each carrier."""
        return {n: pump.heard_at for n, pump in self._pumps.items() if pump.heard_at is not None}

    @property
    def waiting_since(self) -> float | None:
        """Since when (monotonic seconds) nothing that waits to be acknowledged has been; None: nothing
        waits."""
        return self._waiting_since if self._machine.unacked_bytes else None

    def carrier(self, number: int) -> AttachedCarrier | None:
        """A carrier that is here, or was."""
        if (pump := self._pumps.get(number)) is not None:
            return pump.carrier
        ended = self._ended_ones.get(number)
        return None if ended is None else ended.carrier

    def carriers(self) -> dict[int, AttachedCarrier]:
        """The carriers that are up, by number."""
        phases = self._machine.carriers
        return {n: pump.carrier for n, pump in self._pumps.items() if phases[n].is_up}

    def last_counters(self, number: int) -> ev.TcpCounters | None:
        """TCP_INFO of a carrier at its end."""
        ended = self._ended_ones.get(number)
        return None if ended is None else ended.counters

    def check_join(self, join: Join) -> JoinRefused | None:
        """What speaks against a stream that was dialled to us and begins with `join`."""
        return self._machine.check_join(join)

    def listen(self, listener: Callable[[PathEvent], None]) -> None:
        """Call `listener` with whatever happens, in order, as it happens."""
        self._listeners.append(listener)

    # -- carriers --------------------------------------------------------------------------

    def add(self, carrier: AttachedCarrier, first: bytes = b"") -> None:
        """Let an open stream carry the tunnel. `CarrierUp` or `CarrierRefused` follows when it has
        joined.

        Args:
            carrier: the stream, and where it leads.
            first: what was read from it already.
        """
        pump = pump_for(carrier, self, self._tasks)
        commands = self._machine.opened(carrier.number, self._clock.now(), stream_to=carrier.peer)
        if commands:
            self._drop(pump, 1008, "not wanted")
            return
        self._pumps[carrier.number] = pump
        self._watch.start()
        if first:
            self.arrived(carrier.number, first)
        if self._pumps.get(carrier.number) is pump:
            pump.start()
            pump.flush()
        self._arm()

    def use(self, number: int) -> None:
        """Client: send on this carrier from now on."""
        self._step(self._machine.use(number, self._clock.now()))

    def retire(self, number: int) -> None:
        """Close this carrier as soon as the peer knows that it is not wanted any more."""
        self._machine.retire(number)
        self._step([])
        self._close_unneeded()

    def ping(self, number: int) -> None:
        """Ask the other end for an answer on this carrier; `Answered` follows."""
        self._machine.ping(number, self._clock.now())
        if (pump := self._pumps.get(number)) is not None:
            pump.flush()

    async def answers(self, within_s: float) -> bool:
        """Ask the peer for an answer on the carrier in use; False where none comes in so many seconds,
        and at once while detached."""
        answered = self._loop.create_future()

        def happened(event: PathEvent) -> None:
            if isinstance(event, Answered) and not answered.done():
                answered.set_result(None)

        self._listeners.append(happened)
        try:
            if not self.in_use:
                return False
            self.ping(self.in_use)
            async with asyncio.timeout(within_s):
                await answered
        except TimeoutError:
            return False
        finally:
            self._listeners.remove(happened)
        return True

    def peer_is_gone(self) -> None:
        """The server does not know where the other end is either: do not wait for it any longer."""
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
        if (pump := self._pumps.get(machine.in_use)) is not None:
            pump.flush()
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
        self._consumed()
        return bytes(frame)

    async def serve(self, sink: FrameSink) -> None:
        self._sink = sink
        self._busy = True
        try:
            while True:
                if self._handling is not None:
                    handling, self._handling = self._handling, None
                    await handling
                    self._consumed()
                while self._inbox:
                    if (waiting := sink(self._inbox.popleft())) is not None:
                        await waiting
                    self._consumed()
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
            for number in list(self._pumps):
                self._drop(self._pumps.pop(number), code, reason)
        self._watch.stop()
        if self._timer is not None:
            self._timer.cancel()
        await self._closing.wait(2 * FLUSH_S + 1.0)
        await self._closing.cancel()
        await self._tasks.cancel()

    def counters(self) -> dict[str, int] | None:
        """TCP_INFO of the carrier in use."""
        pump = self._pumps.get(self._machine.in_use)
        return None if pump is None else pump.carrier.stream.counters()

    def counters_fact(self, *, vantage: Vantage, peer: Party, at: float) -> ev.TcpCounters | None:
        """TCP_INFO of the carrier in use, or of the last one that was lost, as evidence.

        It is about the other end of that carrier, which may be a relay, and not about `peer`.
        """
        pump = self._pumps.get(self._machine.in_use)
        if pump is None:
            kept = (one.counters for one in self._ended_ones.values() if one.counters is not None)
            return max(kept, key=lambda counters: counters.at, default=None)
        carrier = pump.carrier
        return carrier.stream.counters_fact(vantage=vantage, peer=carrier.peer, at=at)

    # -- what pumps ask and tell (`pumps.PumpOwner`) --------------------------------------------

    def outgoing(self, number: int) -> tuple[bytes, bytes] | None:
        return self._machine.outgoing(number)

    def arrived(self, number: int, raw: bytes | memoryview | str) -> None:
        try:
            self._arrived(number, raw)
        except Exception as wrong:  # it costs the carrier that brought it, and not the tunnel
            unexpected("a frame of a carrier", wrong)
            self.lost(number, unforeseen_loss(wrong))

    def _arrived(self, number: int, raw: bytes | memoryview | str) -> None:
        pump = self._pumps.get(number)
        if pump is None:
            return
        if isinstance(raw, str):
            self._relay_said(number, raw)
            return
        now, unacked = self._clock.now(), self._machine.unacked_bytes
        pump.heard_at = self.last_heard_at = now.mono
        commands = self._machine.received(number, raw, now)
        if self._machine.unacked_bytes < unacked:
            self._waiting_since = now.mono
        self._step(commands)

    def lost(self, number: int, lost: StreamLost) -> None:
        pump = self._pumps.get(number)
        if pump is None:
            return
        now = self._clock.now()
        fact = fact_of_loss(
            lost,
            vantage=self._vantage,
            peer=pump.carrier.peer,
            at=now.wall,
            heard_ago_s=now.mono - self.last_heard_at,
            stream=pump.carrier.stream,
        )
        self._ended(number, fact, lost.counters)

    def progressed(self) -> None:
        self._close_unneeded()
        if self._progress is not None:
            self._progress.set_result(None)
            self._progress = None

    # -- inside ------------------------------------------------------------------------------

    def _relay_said(self, number: int, text: str) -> None:
        at = self._clock.now().wall
        fact = fact_of_word(text, vantage=self._vantage, other=self._machine.peer, at=at)
        if fact is not None:
            self._ended(number, fact, None)
        elif (seconds := restart_of_word(text)) is not None:
            self._tell(RelayRestarting(number, seconds))

    def _room(self) -> bool:
        machine = self._machine
        return machine.writable and (not machine.in_use or machine.unsent_bytes < SEND_AHEAD)

    def _step(self, commands: list[Command]) -> None:
        for command in commands:
            self._perform(command)
        for pump in list(self._pumps.values()):
            pump.flush()
        if self._progress is not None and (self._lost is not None or self._room()):
            self.progressed()
        self._arm()

    def _perform(self, command: Command) -> None:
        match command:
            case DeliverFrame(frame=frame):
                self._hand_on(frame)
            case CloseCarrier(carrier=number, code=code, why=why, last=last):
                if (pump := self._pumps.pop(number, None)) is not None:
                    self._drop(pump, code, why, last)
            case PeerLeft():
                self._end(StreamEnd.CLOSED, close_code=1000)
            case _:
                self._tell(command)

    def _tell(self, event: PathEvent) -> None:
        if isinstance(event, Used | Resumed):
            self._last_used = self._pumps[event.carrier].carrier
            self.local_address = self._last_used.stream.local_address
        for listener in self._listeners:
            try:
                listener(event)
            except Exception as wrong:  # a bug of whoever listens must not cost the tunnel
                unexpected("a listener of a tunnel", wrong)
        if isinstance(event, GaveUp):
            self._end(StreamEnd.OTHER, fact=event.fact)

    def _hand_on(self, frame: memoryview) -> None:
        if self._sink is None or self._busy:
            self._inbox.append(frame)
            self._wake.set()
        elif (handling := self._sink(frame)) is None:
            self._machine.consumed(self._clock.now())
        else:
            self._busy = True
            self._handling = handling
            self._wake.set()

    def _consumed(self) -> None:
        self._machine.consumed(self._clock.now())
        if (pump := self._pumps.get(self._machine.in_use)) is not None:
            pump.flush()
        self._arm()

    def _ended(self, number: int, fact: Evidence, counters: dict[str, int] | None) -> None:
        """The stream of a carrier has ended, with these last counters."""
        pump = self._pumps.pop(number, None)
        if pump is None:
            return
        now = self._clock.now()
        seen = counters_fact(
            counters,
            vantage=self._vantage,
            peer=pump.carrier.peer,
            at=now.wall,
            reach=pump.carrier.stream.reach,
        )
        self._drop(pump, 1000, "", counters=seen)
        self._step(self._machine.ended(number, fact, now))

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

    def _drop(
        self,
        pump: CarrierPump,
        code: int,
        why: str,
        last: bytes = b"",
        *,
        counters: ev.TcpCounters | None = None,
    ) -> None:
        carrier = pump.carrier
        self._ended_ones.pop(carrier.number, None)
        self._ended_ones[carrier.number] = _Ended(carrier, counters)
        if len(self._ended_ones) > REMEMBERED:
            del self._ended_ones[next(iter(self._ended_ones))]
        self._closing.spawn(pump.close(code, why, last), f"carrier-{carrier.number}")

    def _close_unneeded(self) -> None:
        """Close the carriers that we do not need any more and of which the peer was told so."""
        for number in self._machine.ours_to_close:
            pump = self._pumps[number]
            if not pump.busy:
                now = self._clock.now()
                closed = ev.StreamEnded(
                    vantage=self._vantage,
                    at=now.wall,
                    peer=pump.carrier.peer,
                    how=StreamEnd.CLOSED,
                    close_code=1000,
                )
                self._drop(self._pumps.pop(number), 1000, "retired")
                self._step(self._machine.ended(number, closed, now))

    async def _say_the_last(self) -> None:
        while self._machine.in_use and not self._machine.flushed:
            await self._next_progress()
        self._machine.leave()
        for pump in self._pumps.values():
            pump.flush()
        while any(pump.busy for pump in self._pumps.values()):
            await self._next_progress()

    async def _next_progress(self) -> None:
        if self._progress is None:
            self._progress = self._loop.create_future()
        await asyncio.shield(self._progress)

    # -- time ----------------------------------------------------------------------------------

    def _arm(self) -> None:
        """Set the timer, unless it rings earlier: a tick too many costs less than a timer for each
        frame."""
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
        try:
            self._step(self._machine.tick(self._clock.now()))
        except Exception as wrong:  # a timer that is not set again would never end a wait
            unexpected("the timer of a tunnel", wrong)
            self._timer = self._loop.call_later(FAILED_TICK_S, self._tick)
