"""One relayed carrier: two legs, two copying tasks, and one cell that says how it ended.

Law: never looks inside a frame. Holds one frame in each direction: nothing piles up, because a slow leg
slows the other one, and a bandwidth limit slows both. Reports facts, not verdicts: the first end of a
leg is the fact, and what follows from it is a symptom. The leg that remains first gets everything that
had arrived for it, and is then told how the other one ended.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Protocol

from tether.attribution import evidence as ev
from tether.attribution.causes.catalogue import PROTOCOL_ERRORS
from tether.attribution.disconnect import CloseCell
from tether.attribution.vocabulary import Party, StreamEnd, Vantage
from tether.net.clock import Clock
from tether.net.derp.metrics import RelayCounts
from tether.net.link.host_context import HostContext, NoHostContext
from tether.net.tasks import Tasks
from tether.net.transport.streams import StreamLost, unforeseen_loss
from tether.net.transport.tcp import STALLED_CHECKS, counters_fact, is_stalled
from tether.net.transport.ws_server import ServerStream
from tether.net.unexpected import unexpected
from tether.protocol.derp.pairing import CarrierId
from tether.protocol.messages.codec import MAX_TUNNEL_FRAME
from tether.protocol.messages.derp import Paired, PeerGone, RelayGoodbye, RelayWord, encode_word
from tether.protocol.token_bucket import TokenBucket

FAREWELL_S = 60.0
"""How long the leg that remains may take to read the rest, and how the other leg ended."""

STOP_FAREWELL_S = 1.0
"""How long each leg may take to read a goodbye of the relay itself."""


@dataclass(frozen=True, slots=True)
class CarrierEnding:
    """What the relay saw of one carrier."""

    facts: tuple[ev.Evidence, ...]
    """The first end of a leg, after what was noted before it."""
    symptoms: tuple[ev.Evidence, ...]
    """What came after it."""
    rx_bytes: int
    """Bytes that went to the agent."""
    tx_bytes: int
    """Bytes that came from the agent."""


class CarrierLog(Protocol):
    """Who is told about carriers."""

    async def carrier_joined(self, carrier: CarrierId) -> None:
        """Both legs are here."""

    async def carrier_ended(self, carrier: CarrierId, ending: CarrierEnding) -> None:
        """The carrier is over. Comes once, after `carrier_joined`."""


class Leg:
    """One accepted WebSocket of a carrier."""

    def __init__(self, party: Party, stream: ServerStream, tasks: Tasks) -> None:
        self.party = party
        """Whose leg it is."""
        self.stream = stream
        self.summons: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        """What becomes of a leg that waits: its `Splice`, or the `RelayGoodbye` to be told."""
        self.first = tasks.spawn(_received(stream), f"first-{party}")
        """The first read, begun at once so that the end of a leg that waits is noticed."""
        self.stalled_checks = 0
        """How many checks in a row have found it stalled."""
        self._first_taken = False  # the result of `first` was handed out

    async def recv(self) -> bytes | str:
        """The next message. Raises `StreamLost`."""
        if not self._first_taken:
            self._first_taken = True
            first = await self.first
            if isinstance(first, StreamLost):
                raise first
            return first
        return await self.stream.recv()

    async def tell(self, *words: RelayWord) -> bool:
        """Send words of the relay to this leg; False if it is gone."""
        try:
            for word in words:
                await self.stream.send(encode_word(word))
        except StreamLost:
            return False
        except Exception as wrong:
            unexpected("a leg", wrong)
            return False
        return True

    async def dismiss(self, word: RelayWord, code: int = 1000, within: float = 3.0) -> None:
        """Tell the leg why it is let go, and close it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self.tell(word)
        await self.close(code, "")

    async def close(self, code: int, reason: str) -> None:
        """Close the leg's stream."""
        try:
            await self.stream.close(code, reason)
        except Exception as wrong:  # what becomes of the other leg must not depend on it
            unexpected("the close of a leg", wrong)

    async def release(self) -> None:
        """End the first read, if nobody has taken it. Call when the leg is over."""
        self.first.cancel()
        await asyncio.wait({self.first})


class Splice:
    """Two joined legs."""

    def __init__(
        self,
        carrier: CarrierId,
        client: Leg,
        agent: Leg,
        clock: Clock,
        counts: RelayCounts,
        bandwidth: TokenBucket | None = None,
        host_context: HostContext | None = None,
    ) -> None:
        """
        Args:
            carrier: which one it is.
            client: the client's leg.
            agent: the agent's leg.
            clock: the clock of facts.
            counts: the relay's numbers.
            bandwidth: holds back both directions together; None for no limit.
            host_context: is asked what else happened to this machine when a leg is lost.
        """
        self.id = carrier
        self.client = client
        self.agent = agent
        self.cell = CloseCell()
        """What is known about its end."""
        self.over = asyncio.Event()
        """It has ended; the leg that remains may still be reading."""
        self.finished = asyncio.Event()
        """Both legs are closed."""
        self._clock = clock
        self._counts = counts
        self._bandwidth = bandwidth
        self._host_context = host_context or NoHostContext()
        self._bytes = {Party.CLIENT: 0, Party.AGENT: 0}  # by whose leg they came from
        self._ended: Leg | None = None  # the leg whose end it was, unless the relay ended it
        self._goodbye: RelayGoodbye | None = None  # what both legs are told, if the relay ended it
        self._tasks = Tasks(f"carrier-{carrier.connection_id[:8]}")

    async def run(self, log: CarrierLog) -> None:
        """Copy until a leg ends or the relay ends the carrier; then close both legs in order."""
        copies = {}
        try:
            for leg, other in ((self.client, self.agent), (self.agent, self.client)):
                await leg.tell(Paired())
                copies[leg.party] = self._tasks.spawn(self._copy(leg, other), f"from-{leg.party}")
            await _told(log.carrier_joined(self.id))
            await self.over.wait()
            parting = self._tasks.spawn(self._part(copies), "part")
            await _told(log.carrier_ended(self.id, self.ending()))
            await parting
        finally:
            await self._tasks.cancel()
            self.finished.set()

    def ending(self) -> CarrierEnding:
        """What there is to report."""
        return CarrierEnding(
            self.cell.facts,
            self.cell.symptoms,
            rx_bytes=self._bytes[Party.CLIENT],
            tx_bytes=self._bytes[Party.AGENT],
        )

    def leave(self, goodbye: RelayGoodbye) -> None:
        """The relay itself ends this carrier, and says why."""
        self._over(
            ev.GoodbyeSaid(
                vantage=Vantage.RELAY,
                at=self._clock.now().wall,
                by=Party.RELAY,
                cause=goodbye.cause,
                actor=goodbye.actor,
                detail=goodbye.detail,
            ),
            goodbye=goodbye,
        )

    def watch(self, silent_after_ms: int) -> None:
        """Ask the kernel whether the legs still live, and give up one that is silent."""
        for leg in (self.client, self.agent):
            counters = leg.stream.counters()
            leg.stalled_checks = (
                leg.stalled_checks + 1 if is_stalled(counters, silent_after_ms) else 0
            )
            if counters is not None and leg.stalled_checks >= STALLED_CHECKS:
                lost = StreamLost(
                    StreamEnd.SILENT,
                    counters=counters,
                    silence_s=counters["last_ack_recv_ms"] / 1000,
                )
                self._lost(leg, lost)
                leg.stream.abort()

    async def _copy(self, source: Leg, sink: Leg) -> None:
        while True:
            try:
                message = await source.recv()
            except Exception as wrong:
                self._lost(source, _loss(wrong))
                return
            if isinstance(message, str):
                self._violated(source, "a text frame on a relayed tunnel")
                return
            if len(message) > MAX_TUNNEL_FRAME:
                self._violated(source, f"a tunnel frame of {len(message)} bytes")
                return
            self._bytes[source.party] += len(message)
            self._counts.bytes.inc(len(message))
            if self._bandwidth is not None:
                pause = self._bandwidth.take(self._clock.now().mono, len(message))
                if pause > 0:
                    self._counts.paused.inc(pause)
                    await asyncio.sleep(pause)
            try:
                await sink.stream.send(message)
            except StreamLost:
                return  # the task that reads `sink` sees its end, after what it still has to deliver
            except Exception as wrong:
                self._lost(sink, _loss(wrong))
                return

    def _lost(self, leg: Leg, lost: StreamLost) -> None:
        if lost.violation:
            self._violated(leg, lost.violation)
            return
        at = self._clock.now().wall
        if not self.cell.ended:
            self._note_context(lost.silence_s or 0.0)
        counters = counters_fact(
            lost.counters, vantage=Vantage.RELAY, peer=leg.party, at=at, reach=leg.stream.reach
        )
        if counters is not None:
            self.cell.note(counters)
        self._over(
            ev.StreamEnded(
                vantage=Vantage.RELAY,
                at=at,
                peer=leg.party,
                how=lost.how,
                errno=lost.errno_name,
                close_code=lost.close_code,
                silence_s=lost.silence_s,
                reach=leg.stream.reach,
                proxy=leg.stream.proxy,
            ),
            ended=leg,
        )

    def _note_context(self, silence_s: float) -> None:
        try:
            for fact in self._host_context.since(silence_s):
                self.cell.note(fact)
        except Exception as wrong:  # the leg is lost all the same
            unexpected("the machine's context", wrong)

    def _violated(self, leg: Leg, what: str) -> None:
        at = self._clock.now().wall
        self._over(
            ev.ProtocolViolated(vantage=Vantage.RELAY, at=at, by=leg.party, what=what),
            goodbye=RelayGoodbye(cause=PROTOCOL_ERRORS[leg.party], detail=what),
        )

    def _over(
        self, fact: ev.Evidence, *, ended: Leg | None = None, goodbye: RelayGoodbye | None = None
    ) -> None:
        if self.cell.offer(fact):
            self._ended = ended
            self._goodbye = goodbye
            self._counts.ended("relay" if ended is None else str(ended.party))
            self.over.set()

    async def _part(self, copies: dict[Party, asyncio.Task[None]]) -> None:
        if self._goodbye is not None:
            for copy in copies.values():
                copy.cancel()
            await asyncio.gather(
                self.client.dismiss(self._goodbye, 1001, STOP_FAREWELL_S),
                self.agent.dismiss(self._goodbye, 1001, STOP_FAREWELL_S),
            )
            return
        ended = self._ended
        assert ended is not None, "a carrier ends by a leg or by the relay"
        stays = self.agent if ended is self.client else self.client
        copies[stays.party].cancel()
        fact = next(f for f in self.cell.facts if isinstance(f, ev.StreamEnded))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_S):
                await asyncio.wait({copies[ended.party]})
                await stays.tell(
                    PeerGone(
                        how=str(fact.how),
                        errno=fact.errno,
                        close_code=fact.close_code,
                        silence_s=fact.silence_s,
                    )
                )
        await asyncio.gather(stays.close(1000, "peer gone"), ended.close(1000, ""))


async def _received(stream: ServerStream) -> bytes | str | StreamLost:
    try:
        return await stream.recv()
    except Exception as wrong:
        return _loss(wrong)


def _loss(wrong: Exception) -> StreamLost:
    """How a leg ended; what nobody foresaw ends that leg, and no more."""
    if isinstance(wrong, StreamLost):
        return wrong
    unexpected("a leg", wrong)
    return unforeseen_loss(wrong)


async def _told(telling: Awaitable[None]) -> None:
    """A log that fails must not end a tunnel."""
    try:
        await telling
    except Exception as wrong:
        unexpected("the log of carriers", wrong)
