"""Runs a `Link` over a `MessageStream`: carries messages, data and time between the two.

Law: performs the machine's commands, and sets one timer anew after every step, so that a goodbye does
not wait for the deadline of an older keepalive. Decides nothing. The end of the stream is offered to
the cell here and nowhere else.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from math import inf

from tether.attribution import evidence as ev
from tether.attribution.causes.catalogue import CATALOGUE
from tether.attribution.disconnect import CloseCell
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import StreamEnd, Vantage
from tether.net.clock import Clock
from tether.net.link.evidence import exhausted, fact_of_loss
from tether.net.link.host_context import HostContext, NoHostContext
from tether.net.tasks import Tasks
from tether.net.transport.streams import MessageStream, StreamLost, unforeseen_loss
from tether.net.transport.tcp import counters_fact, is_lossy
from tether.net.unexpected import unexpected
from tether.protocol.link.idle import IdleTimes
from tether.protocol.link.link import (
    CloseStream,
    Command,
    DeliverMessage,
    Link,
    LinkEnded,
    LinkState,
    SendMessage,
)
from tether.protocol.messages.base import Garbage, Message
from tether.protocol.messages.codec import decode, encode
from tether.protocol.timestamp import Timestamp

HIGH_WATER = 512 << 10
"""Bytes queued for sending above which `drain` waits."""

OVERFLOW = 16 << 20
"""Bytes queued for sending above which the peer, which does not read, is given up."""

FLUSH_S = 1.0
"""How long what is queued may take to leave before an orderly close."""

AWAY_S = 1.0
"""A timer that rings later than this shows that this process was stopped or starved."""


class LinkDriver:
    """Runs one link over one stream. Call `run` once; it returns the cell with the cause."""

    def __init__(
        self,
        *,
        stream: MessageStream,
        link: Link,
        clock: Clock,
        deliver: Callable[[Message], Awaitable[None] | None],
        pack: Callable[[Message], bytes] = encode,
        unpack: Callable[[bytes | memoryview], Message | memoryview] = decode,
        on_data: Callable[[memoryview], Awaitable[None] | None] | None = None,
        host_context: HostContext | None = None,
    ) -> None:
        """
        Args:
            stream: an open stream to the link's peer.
            link: the machine.
            clock: the clock of the machine.
            deliver: is handed each message. It may return an awaitable: nothing more is read until
                that is done.
            pack: the wire form of a message.
            unpack: the message in a wire form, or data; raises `Garbage`.
            on_data: is handed data, as `deliver` is messages; None where data is a violation.
            host_context: is asked what else happened to this machine when the stream is lost.
        """
        self.link = link
        self._stream = stream
        self._clock = clock
        self._deliver = deliver
        self._pack = pack
        self._unpack = unpack
        self._on_data = on_data
        self._host_context = host_context or NoHostContext()
        self._vantage = Vantage(str(link.me))
        now = clock.now()
        self._made_at = now.wall
        self.idle_times = None if stream.outlives_connections else IdleTimes(now.mono)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0  # when that timer should ring
        self._resent_heard_at = -inf  # when the peer was heard, as `_resent` was read
        self._resent = 0  # how often our kernel had resent until then
        self._outbox: deque[bytes] = deque()
        self._queued = 0  # bytes in the outbox
        self._wake = asyncio.Event()  # there is something in the outbox
        self._emptied = asyncio.Event()  # the outbox is empty, or what is in it will never leave
        self._room = asyncio.Event()  # there is less than `HIGH_WATER`
        self._room.set()
        self._over = asyncio.Event()  # the machine has ended
        self._close: CloseStream | None = None  # how it wants the stream closed
        self._stream_lost = False  # nothing more can be sent
        self._handling = False  # a handler is awaited, and nothing is read until it is done
        self._inbox: deque[Message] = deque()  # delivered by the machine, not yet handed out
        self._tasks = Tasks(f"link-{link.me}-{link.peer}")

    @property
    def cell(self) -> CloseCell:
        """What is known about the end of this link."""
        return self.link.cell

    @property
    def is_open(self) -> bool:
        """Whether neither end has said or seen that the link ends."""
        return self.link.state is LinkState.OPEN

    @property
    def heard_at(self) -> float:
        """When (monotonic seconds) the peer was last heard."""
        return self.link.heard_at

    @property
    def rtt_s(self) -> float | None:
        """The round trip of the last ping that was answered."""
        return self.link.rtt_s

    @property
    def queued(self) -> int:
        """Bytes that wait to be sent."""
        return self._queued

    def send(self, message: Message) -> None:
        """Queue a message; nothing is sent once the link is ending."""
        if self.is_open:
            self._queue(self._pack(message))

    def send_data(self, frame: bytes) -> None:
        """Queue a frame of data; follow with `drain` where much is sent.

        Data may follow our own goodbye, because the last bytes of the layer above come after the cause
        of its end. It leaves before the stream is closed.
        """
        if self.link.state in (LinkState.OPEN, LinkState.LEAVING):
            self._queue(frame)

    async def drain(self) -> None:
        """Wait until there is room to send more or the link is over."""
        await self._room.wait()

    def ping(self) -> None:
        """Ping now; the peer's `Pong` is delivered."""
        self._perform(self.link.ping(self._clock.now()))

    def set_liveness(self, *, ping_every: float, patience: float, linger: float) -> None:
        """Adopt the keepalive that the peer asked for.

        Args:
            ping_every: seconds between pings.
            patience: seconds of silence after which the peer is given up.
            linger: seconds for which a goodbye of ours waits for its answer.
        """
        self.link.linger = linger
        self.link.set_liveness(ping_every=ping_every, patience=patience, now=self._clock.now())
        self._perform([])

    def leave(
        self,
        cause: str = "",
        *,
        because: Evidence | None = None,
        actor: str = "",
        detail: str = "",
        retry_after_s: float = 0.0,
    ) -> None:
        """Say goodbye with a declared cause, or because of a fact, or both; see `Link.leave`."""
        self._perform(
            self.link.leave(
                cause,
                self._clock.now(),
                because=because,
                actor=actor,
                detail=detail,
                retry_after_s=retry_after_s,
            )
        )

    def violated(self, what: str) -> None:
        """The peer broke the protocol."""
        self._perform(self.link.violated(what, self._clock.now()))

    def failed(self, wrong: Exception) -> None:
        """A handler raised what is a bug of ours: say so, and leave."""
        what = f"{type(wrong).__name__}: {wrong}"[:200]
        failure = ev.InternalFailure(
            vantage=self._vantage, at=self._clock.now().wall, party=self.link.me, what=what
        )
        code = f"{self.link.me}.internal_error"
        if gone := exhausted(wrong, party=self.link.me, at=self._clock.now().wall):
            self.cell.note(gone)
        self.leave(code if code in CATALOGUE else "", because=failure)

    def cut(self, fact: Evidence, *context: Evidence) -> None:
        """End the link without a goodbye, because of `fact`; `context` is noted in the cell before
        it."""
        self._perform(self.link.cut(fact, *context))

    def give_up(self) -> None:
        """End the link as that of a silent peer now, before our patience with it is over."""
        now = self._clock.now()
        silence_s = self.heard_ago_s()
        self._note_silence(now, silence_s)
        self.cut(
            ev.StreamEnded(
                vantage=self._vantage,
                at=now.wall,
                peer=self.link.peer,
                how=StreamEnd.SILENT,
                silence_s=silence_s,
                reach=self._stream.reach,
                proxy=self._stream.proxy,
            )
        )

    async def run(self) -> CloseCell:
        """Pump until the link is over; cancelled, it still closes the stream."""
        self.link.reach, self.link.proxy = self._stream.reach, self._stream.proxy
        reader = self._tasks.spawn(self._read(), "read")
        self._tasks.spawn(self._write(), "write")
        self._perform([])
        try:
            await self._over.wait()
            orderly = self._close is not None and self._close.code == 1000
            if self._queued and orderly and not self._stream_lost:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._emptied.wait(), FLUSH_S)
        finally:
            if self._timer is not None:
                self._timer.cancel()
            close = self._close or CloseStream(1001, "going away")
            reader.cancel()
            await self._tasks.cancel()
            try:
                await self._stream.close(close.code, close.reason)
            except Exception as wrong:  # the link is over all the same, and its cell has why
                unexpected("the close of a stream", wrong)
        return self.cell

    async def _read(self) -> None:
        try:
            await self._stream.serve(self._take)
        except StreamLost as lost:
            self._lost(lost)
        except Exception as wrong:
            self._lost_unforeseen(wrong)

    def _take(self, raw: bytes | memoryview | str) -> Awaitable[None] | None:
        """A message arrived. The caller awaits what is returned before it hands over the next one."""
        if self._over.is_set():
            return None
        try:
            waiting = self._handled(raw)
        except Exception as wrong:
            self._went_wrong(wrong)
            return None
        return None if waiting is None else self._handle(waiting)

    def _handled(self, raw: bytes | memoryview | str) -> Awaitable[None] | None:
        if isinstance(raw, str):
            raise Garbage("a text message")
        item = self._unpack(raw)
        if self.idle_times is not None:
            self.idle_times.heard(self._clock.now().mono)
        if isinstance(item, memoryview):
            if self._on_data is None:
                raise Garbage("data on a control link")
            self.link.heard(self._clock.now())
            return self._on_data(item)
        self._perform(self.link.receive(item, self._clock.now()))
        return self._hand_out()

    def _hand_out(self) -> Awaitable[None] | None:
        while self._inbox:
            if (waiting := self._deliver(self._inbox.popleft())) is not None:
                return self._hand_out_after(waiting) if self._inbox else waiting
        return None

    async def _hand_out_after(self, waiting: Awaitable[None]) -> None:
        await waiting
        if (more := self._hand_out()) is not None:
            await more

    async def _handle(self, waiting: Awaitable[None]) -> None:
        self._handling = True
        try:
            await waiting
        except Exception as wrong:
            self._went_wrong(wrong)
        finally:
            self._handling = False

    def _went_wrong(self, wrong: Exception) -> None:
        if not isinstance(wrong, Garbage):  # a bug must not leave a link that nobody reads
            unexpected("a handler of messages", wrong)
            self.failed(wrong)
        elif self.is_open:  # a peer that is being left may send what it likes
            self.violated(str(wrong))

    async def _write(self) -> None:
        while True:
            while self._outbox:
                frame = self._outbox.popleft()
                try:
                    await self._stream.send(frame)
                except StreamLost as lost:
                    self._lost(lost)
                    return
                except Exception as wrong:
                    self._lost_unforeseen(wrong)
                    return
                self._queued -= len(frame)
                if self._queued <= HIGH_WATER:
                    self._room.set()
            self._wake.clear()
            self._emptied.set()
            await self._wake.wait()

    def _queue(self, frame: bytes) -> None:
        if not self._queued and self._stream.send_now(frame):
            return
        if self.idle_times is not None:
            self.idle_times.sent(self._clock.now().mono)
        self._outbox.append(frame)
        self._queued += len(frame)
        if self._queued > HIGH_WATER:
            self._room.clear()
        self._emptied.clear()
        self._wake.set()
        if self._queued > OVERFLOW:
            self._stream_lost = True
            self._emptied.set()
            self.cut(
                ev.QueueOverflowed(
                    vantage=self._vantage,
                    at=self._clock.now().wall,
                    party=self.link.peer,
                    queue="outbox",
                    limit=OVERFLOW,
                )
            )

    def _lost(self, lost: StreamLost) -> None:
        self._stream_lost = True
        self._emptied.set()  # what is queued will never leave
        now = self._clock.now()
        idle_s = None if self.idle_times is None else self.idle_times.idle_s(now.mono)
        fact = fact_of_loss(
            lost,
            vantage=self._vantage,
            peer=self.link.peer,
            at=now.wall,
            idle_s=idle_s,
            heard_ago_s=self.heard_ago_s(),
            stream=self._stream,
        )
        counters = lost.counters_fact or counters_fact(
            lost.counters,
            vantage=self._vantage,
            peer=self.link.peer,
            at=now.wall,
            reach=self._stream.reach,
        )
        around = self._around(lost.silence_s or self.heard_ago_s())
        self.cut(fact, *([counters] if counters else []), *around)

    def _lost_unforeseen(self, wrong: Exception) -> None:
        """The stream raised something that no table foresees. It counts as lost."""
        unexpected("a stream", wrong)
        self._lost(unforeseen_loss(wrong))

    def _around(self, silence_s: float) -> Sequence[Evidence]:
        """What else happened to this machine lately, but not before this link was made."""
        try:
            facts = self._host_context.since(silence_s, self._stream.local_address)
        except Exception as wrong:  # the link ends all the same
            unexpected("the machine's context", wrong)
            return []
        return [fact for fact in facts if fact.at >= self._made_at]

    def _tick(self) -> None:
        try:
            self._look()
        except Exception as wrong:  # a link whose timer is not set again would never end
            unexpected("the timer of a link", wrong)
            self._arm(self._clock.now().mono + AWAY_S)

    def _look(self) -> None:
        """A deadline of the machine has come."""
        now = self._clock.now()
        if now.mono - self._due > AWAY_S:  # first read what came while we were stopped or starved
            self._arm(now.mono + AWAY_S)
            return
        if self._handling:  # nothing is read meanwhile: the silence is our own
            self.link.heard(now)
        self._mark_resent()
        if self.link.patience_over(now):
            silence_s = now.mono - self.link.heard_at
            lossy = is_lossy(self._stream.counters(), silence_s, self._resent)
            if not (lossy and self.link.extend_patience(now)):
                self._note_silence(now, silence_s)
        self._perform(self.link.tick(now))

    def _mark_resent(self) -> None:
        """Remember how often was resent until the peer was heard: only losses since excuse its
        silence."""
        if self.link.heard_at > self._resent_heard_at:
            counters = self._stream.counters()
            self._resent_heard_at = self.link.heard_at
            self._resent = counters["total_retrans"] if counters else 0

    def _note_silence(self, now: Timestamp, silence_s: float) -> None:
        """Note what the kernel and the machine can tell of a silence, before it becomes the end."""
        counters = self._stream.counters_fact(
            vantage=self._vantage, peer=self.link.peer, at=now.wall
        )
        if counters is not None:
            self.cell.note(counters)
        for fact in self._around(silence_s):
            self.cell.note(fact)

    def heard_ago_s(self) -> float:
        """How many seconds ago the peer last gave a sign of life, by a message or otherwise."""
        return self._clock.now().mono - max(self.link.heard_at, self._stream.last_heard_at)

    def _perform(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case SendMessage(message=message):
                    self._queue(self._pack(message))
                case DeliverMessage(message=message):
                    self._inbox.append(message)
                case CloseStream():
                    self._close = command
                case LinkEnded():
                    self._over.set()
                    self._room.set()
        self._arm(None if self._over.is_set() else self.link.deadline())

    def _arm(self, deadline: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if deadline is not None:
            now = self._clock.now().mono
            self._due = max(deadline, now)
            self._timer = self._loop.call_later(self._due - now, self._tick)
