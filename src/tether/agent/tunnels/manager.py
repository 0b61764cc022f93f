"""Tunnels from offer to end: join, journal, serve, journal, remember.

Law: every offer is either declined with a sentence, or opened and ended in the journal; one of the two,
exactly once. A tunnel is served from its first carrier on, whichever that is; its stream deals with
further ones. Whoever ends tunnels brings an `EndOrder`, which is handed on before anything is closed, to
tunnels that are still being joined as well. The cells see to it that a first cause is not overwritten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from tether.agent.journal.journal import Journal
from tether.agent.tunnels.path_log import PathLog
from tether.agent.tunnels.service import EndOrder, TunnelServing
from tether.agent.tunnels.tombstones import Tombstones
from tether.attribution import evidence as ev
from tether.attribution.classify import classify
from tether.attribution.disconnect import Disconnect
from tether.attribution.vocabulary import ConnectionMethod, ConnectType, Party, Purpose, Vantage
from tether.log import get_logger
from tether.net.clock import Clock
from tether.net.tasks import Tasks
from tether.net.transport.direct import DirectStream
from tether.net.transport.streams import DialFailed, MessageStream, unforeseen_failure
from tether.net.tunnel.stream import AttachedCarrier, TunnelStream
from tether.net.unexpected import unexpected
from tether.protocol.messages.base import Garbage, records_of
from tether.protocol.messages.derp import EMBEDDED_REGION
from tether.protocol.messages.reports import Ended, Opened
from tether.protocol.messages.tunnel import CarrierOffer, OfferDeclined, TunnelOffer
from tether.protocol.tunnel.events import CarrierUp, PathEvent
from tether.protocol.tunnel.frames import encode_opening
from tether.protocol.tunnel.join import Join, TunnelKey
from tether.protocol.tunnel.resume_policy import VANISHED_S, Waits

MAX_TUNNELS = 256

JOIN_S = 20.0
"""How long a tunnel's first carrier may take."""

OFFER_WAIT_S = 2.0
"""How much earlier than its offer a direct carrier may come: the two take different paths."""

_log = get_logger("tunnels")

DialRelay = Callable[[str, str, bool], Awaitable[MessageStream]]
"""Takes the relay, a ticket, and whether TCP is to send small segments only."""

Decline = Callable[[OfferDeclined], None]


class SshServing(TunnelServing, Protocol):
    """What is needed of `agent.ssh.server.SshServer`."""

    def abandon(self, fact: ev.Evidence) -> None: ...

    async def hang_up(self) -> None: ...

    async def finish(self) -> None: ...


@dataclass(slots=True)
class _Tunnel:
    """One offer that was taken up, until its tunnel is over."""

    offer: TunnelOffer
    decline: Decline
    key: TunnelKey
    stream: TunnelStream
    serving: TunnelServing
    first: asyncio.Future[bool]
    """Whether a first carrier came."""
    dialling: Tasks
    task: asyncio.Task[None] | None = None
    joining: bool = True
    """Its first carrier has not come yet."""
    declined: bool = False
    order: EndOrder | None = None
    """Why it is being ended, once it is."""
    numbers: set[int] = field(default_factory=lambda: {1})
    """Carriers that were offered."""


class Tunnels:
    """All tunnels of this agent."""

    def __init__(
        self,
        *,
        ssh: SshServing,
        journal: Journal,
        clock: Clock,
        dial: DialRelay,
        limit: int = MAX_TUNNELS,
        others: Mapping[str, TunnelServing] | None = None,
        vanished_s: float = VANISHED_S,
    ) -> None:
        """`others` serve the purposes that are not SSH; `vanished_s` is how long a tunnel waits for
        a client whose stream ended without a goodbye."""
        self._serving: dict[str, TunnelServing] = {Purpose.SSH: ssh, **(others or {})}
        self._journal = journal
        self._clock = clock
        self._dial = dial
        self._limit = limit
        self._vanished_s = vanished_s
        self._tunnels: dict[str, _Tunnel] = {}  # by connection id
        self._expected: dict[str, asyncio.Future[None]] = {}  # clients that came before their offer
        self._tombstones = Tombstones()
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks("tunnels")
        self._refusal = ""  # the sentence by which all offers are declined
        self.direct = False
        """Whether clients can reach us without a relay: then a failed one does not end a tunnel."""

    @property
    def ids(self) -> set[str]:
        """Tunnels that are being joined or served."""
        return set(self._tunnels)

    def refuse(self, sentence: str) -> None:
        """Decline every offer from now on with `sentence`; "" takes them again."""
        self._refusal = sentence

    def offered(self, offer: TunnelOffer, decline: Decline) -> None:
        """Take up `offer`, or `decline` it, now or when it cannot be joined."""
        if offer.connection_id in self._tunnels:
            return
        try:
            tunnel = self._accepted(offer, decline)
        except Garbage as refusal:
            decline(OfferDeclined(connection_id=offer.connection_id, message=str(refusal)))
            return
        self._tunnels[offer.connection_id] = tunnel
        tunnel.task = self._tasks.spawn(self._run(tunnel), offer.connection_id)
        if (expected := self._expected.pop(offer.connection_id, None)) is not None:
            expected.set_result(None)

    def carrier_offered(self, offer: CarrierOffer, decline: Decline) -> None:
        """Join the client of a tunnel over a further relay."""
        tunnel = self._tunnels.get(offer.connection_id)
        if tunnel is None or tunnel.stream.over:
            code = self._tombstones.code(offer.connection_id, self._clock.now())
            decline(
                OfferDeclined(
                    connection_id=offer.connection_id,
                    message="the agent does not serve this connection any more",
                    carrier=offer.carrier,
                    code=code,
                )
            )
        elif offer.carrier not in tunnel.numbers:
            tunnel.numbers.add(offer.carrier)
            tunnel.dialling.spawn(
                self._add_relayed(tunnel, offer, decline), f"carrier-{offer.carrier}"
            )

    async def join_directly(self, stream: DirectStream, join: Join, raw: bytes) -> None:
        """A client came to us directly, and this is how it introduced itself."""
        tunnel = await self._expect(join.connection_id)
        if tunnel is None:
            refusal = self._tombstones.refusal(join, self._clock.now())
        elif (judged := tunnel.stream.check_join(join)) is not None:
            refusal = judged
        else:
            carrier = AttachedCarrier(
                number=join.carrier,
                method=ConnectionMethod.DIRECT,
                where=stream.remote_address,
                stream=stream,
                peer=Party.CLIENT,
            )
            tunnel.stream.add(carrier, raw)
            return
        stream.write(encode_opening(refusal))
        await stream.close(1008, refusal.code)

    def end(self, connection_ids: Iterable[str] | None, order: EndOrder) -> None:
        """End these tunnels (None: all) with `order`."""
        wanted = self.ids if connection_ids is None else self.ids & set(connection_ids)
        for connection_id in wanted:
            tunnel = self._tunnels[connection_id]
            if tunnel.joining and tunnel.order is None:  # the client need not wait for the relay
                self._decline(tunnel, order.announcement)
            tunnel.order = tunnel.order or order
        for connection_id in wanted:
            if not self._tunnels[connection_id].joining:
                self._end_served(self._tunnels[connection_id], order)

    def client_lost(self, connection_ids: Iterable[str]) -> None:
        """The server has lost the clients of these, too: they are not waited for any longer."""
        for connection_id in self.ids & set(connection_ids):
            self._tunnels[connection_id].stream.peer_is_gone()

    async def close(self, timeout: float) -> None:
        """Wait for every tunnel that was told to `end`, at most `timeout` seconds; then drop what
        is left of them. When this returns, the end of each that was opened has been posted."""
        ending = {t.task for t in self._tunnels.values() if t.order is not None and t.task}
        try:
            if ending:
                await asyncio.wait(ending, timeout=timeout)
        finally:
            for task in ending:
                task.cancel()
            await asyncio.gather(*ending, return_exceptions=True)

    def ask_clients(self) -> Callable[[], tuple[int, int]]:
        """Ask the clients of all tunnels whose path does not lead through the server to answer.

        Returns:
            What tells how many were asked, and how many have answered by then.
        """
        asked: dict[TunnelStream, float] = {}
        for tunnel in self._tunnels.values():
            stream = tunnel.stream
            carrier = stream.carrier(stream.in_use)
            if carrier is not None and carrier.where != EMBEDDED_REGION:
                asked[stream] = self._clock.now().mono
                stream.ping(stream.in_use)

        def tally() -> tuple[int, int]:
            answered = [stream for stream, at in asked.items() if stream.last_heard_at > at]
            return len(asked), len(answered)

        return tally

    # -- one tunnel --------------------------------------------------------------------

    def _accepted(self, offer: TunnelOffer, decline: Decline) -> _Tunnel:
        """Raises `Garbage` with the sentence by which an offer is declined."""
        if self._refusal:
            raise Garbage(self._refusal)
        if len(self._tunnels) >= self._limit:
            raise Garbage(f"the agent already serves {self._limit} connections: close some of them")
        serving = self._serving.get(offer.purpose)
        if serving is None:
            raise Garbage(f"this agent does not know what {offer.purpose[:40]!r} is: update it")
        try:
            key = TunnelKey.read(offer.tunnel_key)
        except Garbage:
            raise Garbage("the tunnel was offered without its key: update the server") from None
        stream = TunnelStream(
            me=Party.AGENT,
            connection_id=offer.connection_id,
            key=key,
            clock=self._clock,
            waits=Waits(vanished_s=self._vanished_s, policy_s=offer.resume_s),
        )
        return _Tunnel(
            offer=offer,
            decline=decline,
            key=key,
            stream=stream,
            serving=serving,
            first=self._loop.create_future(),
            dialling=Tasks(f"carriers-{offer.connection_id[:8]}"),
        )

    async def _run(self, tunnel: _Tunnel) -> None:
        offer = tunnel.offer
        try:
            if not await self._first_carrier(tunnel):
                if tunnel.order is None:
                    self._decline(tunnel, "nobody came to the tunnel in time")
                return
            # No await from here to the first step of serving, which makes the tunnel known: an
            # order to end came before, and follows that step, or comes later, and finds it.
            tunnel.joining = False
            if tunnel.order is not None:
                self._loop.call_soon(self._end_served, tunnel, tunnel.order)
            await self._serve(tunnel)
        finally:
            del self._tunnels[offer.connection_id]
            await tunnel.dialling.cancel()
            await tunnel.stream.close(1001, "the tunnel is over")

    async def _first_carrier(self, tunnel: _Tunnel) -> bool:
        offer = tunnel.offer

        def happened(event: PathEvent) -> None:
            if isinstance(event, CarrierUp) and not tunnel.first.done():
                self._journal.post(
                    Opened(connection_id=offer.connection_id, at=self._clock.now().wall)
                )
                tunnel.first.set_result(True)

        tunnel.stream.listen(happened)
        PathLog(tunnel.stream, clock=self._clock, post=self._journal.post)
        if offer.relay_url:
            first = CarrierOffer(
                connection_id=offer.connection_id,
                carrier=1,
                relay_url=offer.relay_url,
                ticket=offer.ticket,
                region=offer.region,
            )
            tunnel.dialling.spawn(self._add_relayed(tunnel, first, tunnel.decline), "carrier-1")
        try:
            async with asyncio.timeout(JOIN_S):
                return await tunnel.first
        except TimeoutError:
            return False

    async def _add_relayed(self, tunnel: _Tunnel, offer: CarrierOffer, decline: Decline) -> None:
        try:
            stream = await self._dial(offer.relay_url, offer.ticket, offer.small_segments)
        except Exception as wrong:
            self._not_joined(tunnel, offer, decline, wrong)
            return
        tunnel.stream.add(
            AttachedCarrier(
                number=offer.carrier,
                method=ConnectionMethod.DERP,
                where=offer.region,
                stream=stream,
                peer=Party.RELAY,
            )
        )

    def _not_joined(
        self, tunnel: _Tunnel, offer: CarrierOffer, decline: Decline, wrong: Exception
    ) -> None:
        failed = wrong if isinstance(wrong, DialFailed) else unforeseen_failure(wrong, "the relay")
        if failed.unforeseen:
            unexpected("the dial of a carrier", failed.__cause__ or failed)
        _log.info(
            "tunnel not joined",
            connection_id=offer.connection_id,
            carrier=offer.carrier,
            error=str(failed),
        )
        message = f"the agent could not join the tunnel: {failed}"
        if offer.carrier == 1:
            if tunnel.order is None:
                self._decline(tunnel, message)
            if not self.direct and not tunnel.first.done():
                tunnel.first.set_result(False)
        else:
            decline(
                OfferDeclined(
                    connection_id=offer.connection_id, message=message, carrier=offer.carrier
                )
            )

    async def _expect(self, connection_id: str) -> _Tunnel | None:
        """The tunnel of a client that came directly; it may be quicker than its offer."""
        known = self._tombstones.code(connection_id, self._clock.now()) == "tunnel_over"
        if connection_id not in self._tunnels and not known:
            expected = self._expected.setdefault(connection_id, self._loop.create_future())
            try:
                async with asyncio.timeout(OFFER_WAIT_S):
                    await asyncio.shield(expected)
            except TimeoutError:
                self._expected.pop(connection_id, None)
        return self._tunnels.get(connection_id)

    async def _serve(self, tunnel: _Tunnel) -> None:
        try:
            end = await tunnel.serving.serve(tunnel.stream, tunnel.offer)
        except BaseException as wrong:  # dropped, or a bug: the end is posted all the same
            fact: ev.Evidence = self._failure(wrong)
            if isinstance(wrong, asyncio.CancelledError) and tunnel.order is not None:
                fact = tunnel.order.said
            self._journal.post(
                Ended(
                    connection_id=tunnel.offer.connection_id,
                    at=self._clock.now().wall,
                    facts=records_of((fact,)),
                )
            )
            self._remember(tunnel, classify(ConnectType.AGENT_TO_CLIENT, (fact,)).disconnect)
            raise
        self._remember(tunnel, end.disconnect)
        await self._journal.append(
            Ended(
                connection_id=end.connection_id,
                at=end.ended_at.wall,
                facts=records_of(end.cell.facts),
                symptoms=records_of(end.cell.symptoms),
                rx_bytes=end.rx_bytes,
                tx_bytes=end.tx_bytes,
            )
        )

    def _remember(self, tunnel: _Tunnel, end: Disconnect) -> None:
        self._tombstones.add(tunnel.offer.connection_id, tunnel.key, end, self._clock.now())

    def _end_served(self, tunnel: _Tunnel, order: EndOrder) -> None:
        tunnel.serving.end([tunnel.offer.connection_id], order)

    def _decline(self, tunnel: _Tunnel, message: str) -> None:
        if not tunnel.declined:
            tunnel.declined = True
            connection_id = tunnel.offer.connection_id
            tunnel.decline(OfferDeclined(connection_id=connection_id, message=message))

    def _failure(self, wrong: BaseException) -> ev.InternalFailure:
        return ev.InternalFailure(
            vantage=Vantage.AGENT,
            at=self._clock.now().wall,
            party=Party.AGENT,
            what=f"{type(wrong).__name__}: {wrong}"[:200],
        )
