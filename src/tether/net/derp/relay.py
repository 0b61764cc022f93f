"""A DERP relay: pairs the legs of carriers, and knows which tunnels they carry.

Law: a leg comes with a good ticket and is served until it is over. Where its other leg does not come, it
is told so before its own end gives up waiting. The server's embedded relay and a standalone one are both
this class. What happens between two joined legs is in `splice.py`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass

from tether.attribution.causes.catalogue import cause_of
from tether.attribution.vocabulary import Party
from tether.log import get_logger
from tether.net.clock import Clock
from tether.net.derp.metrics import RelayCounts
from tether.net.derp.splice import CarrierLog, Leg, Splice
from tether.net.derp.tickets import Ticket
from tether.net.link.host_context import HostContext
from tether.net.tasks import Tasks
from tether.net.transport.streams import StreamLost
from tether.net.transport.tcp import SILENT_AFTER_MS
from tether.net.transport.ws_server import ServerStream
from tether.protocol.derp.pairing import CarrierId, GiveUp, JoinLegs, PairingTable, Refuse, Wait
from tether.protocol.messages.derp import RelayGoodbye, Restarting
from tether.protocol.token_bucket import TokenBucket

WATCH_EVERY_S = 5.0
"""How often the kernel is asked how the legs are."""

BURST_S = 0.25
"""How many seconds' worth of its bandwidth a carrier may use at once."""

_log = get_logger("relay")


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayLimits:
    """What a relay lets through. 0 is no limit."""

    max_carriers: int = 0
    """Joined pairs of legs at one time."""
    max_legs_per_ip: int = 0
    """Legs from one address at one time, joined or not."""
    bytes_per_second: int = 0
    """Bandwidth of one carrier, both directions together."""


class Relay:
    """Accepts legs, pairs them, and knows which tunnels they carry."""

    def __init__(
        self,
        *,
        log: CarrierLog,
        clock: Clock,
        counts: RelayCounts,
        table: PairingTable | None = None,
        limits: RelayLimits | None = None,
        host_context: HostContext | None = None,
        watch_every_s: float = WATCH_EVERY_S,
        silent_after_ms: int = SILENT_AFTER_MS,
    ) -> None:
        """
        Args:
            log: is told when a carrier is joined and when it ends.
            clock: the clock of the table and of facts.
            counts: the numbers for Prometheus.
            table: which legs wait for which; one of its own by default.
            limits: what is let through; no limits by default.
            host_context: is asked what else happened to this machine when a leg is lost.
            watch_every_s: how often the kernel is asked how the legs are.
            silent_after_ms: for how long a leg with something outstanding may acknowledge nothing.
        """
        self.counts = counts
        self._carrier_log = log
        self._clock = clock
        self._table = PairingTable() if table is None else table
        self._limits = RelayLimits() if limits is None else limits
        self._host_context = host_context
        self._waiting: dict[CarrierId, Leg] = {}  # the first legs of carriers that are not joined
        self._carriers: dict[CarrierId, Splice] = {}  # those that are joined
        self._of_tunnel: dict[str, set[CarrierId]] = {}  # keys of `_carriers` by connection id
        self._by_ip: Counter[str] = Counter()  # legs here
        self._stopped: RelayGoodbye | None = None  # what new legs are told, once none is taken
        self._timer: asyncio.TimerHandle | None = None  # of the table's next deadline
        self._watch_every_s = watch_every_s
        self._silent_after_ms = silent_after_ms
        self._tasks = Tasks("relay")
        self._watchdog: asyncio.Task[None] | None = None  # runs from the first carrier on
        self._emptied = asyncio.Event()  # the last carrier has ended

    def lives(self, connection_id: str) -> bool:
        """Whether the tunnel has a carrier that is joined and of which neither leg has ended."""
        return any(
            not self._carriers[key].over.is_set() for key in self._of_tunnel.get(connection_id, ())
        )

    def living(self) -> list[CarrierId]:
        """The carriers that are joined and of which neither leg has ended."""
        return [key for key, carrier in self._carriers.items() if not carrier.over.is_set()]

    def __len__(self) -> int:
        return len(self._carriers)

    async def serve(self, stream: ServerStream, ticket: Ticket, client_ip: str = "") -> None:
        """Serve one leg, accepted and with a good ticket, until it is over."""
        leg = Leg(ticket.leg, stream, self._tasks)
        self.counts.legs.inc()
        self._by_ip[client_ip] += 1
        try:
            await self._serve(leg, ticket.carrier_id, client_ip)
        finally:
            self.counts.legs.dec()
            self._by_ip[client_ip] -= 1
            if not self._by_ip[client_ip]:
                del self._by_ip[client_ip]
            await leg.release()

    async def _serve(self, leg: Leg, carrier_id: CarrierId, client_ip: str) -> None:
        if self._stopped is not None:
            self.counts.refused("relay_stopping")
            await leg.dismiss(self._stopped, 1001)
            return
        if refused := self._over_limit(client_ip):
            self.counts.refused(refused[0])
            await leg.dismiss(RelayGoodbye(cause="", detail=refused[1]))
            return
        match self._table.arrive(carrier_id, leg.party, self._clock.now()):
            case Refuse(message=message):
                self.counts.refused("declined")
                await leg.dismiss(RelayGoodbye(cause="", detail=message))
            case Wait():
                self._waiting[carrier_id] = leg
                self._arm()
                await self._wait(leg, carrier_id)
            case JoinLegs():
                self._arm()
                first = self._waiting.pop(carrier_id)
                client, agent = (first, leg) if leg.party is Party.AGENT else (leg, first)
                carrier = Splice(
                    carrier_id,
                    client,
                    agent,
                    self._clock,
                    self.counts,
                    self._bandwidth(),
                    self._host_context,
                )
                first.summons.set_result(carrier)
                await self._host(carrier)

    def _over_limit(self, client_ip: str) -> tuple[str, str] | None:
        most = self._limits.max_legs_per_ip
        if most and self._by_ip[client_ip] > most:
            return "too_many_legs", f"this address has {most} connections at this relay already"
        most = self._limits.max_carriers
        if most and len(self._carriers) >= most:
            return "relay_busy", "the relay is full: try again in a minute, or another one"
        return None

    def _bandwidth(self) -> TokenBucket | None:
        per_s = self._limits.bytes_per_second
        if not per_s:
            return None
        return TokenBucket(per_s=per_s, burst=per_s * BURST_S, now=self._clock.now().mono)

    async def _host(self, carrier: Splice) -> None:
        if self._watchdog is None:
            self._watchdog = self._tasks.keep(self._watch, "watchdog")
        self._carriers[carrier.id] = carrier
        self._of_tunnel.setdefault(carrier.id.connection_id, set()).add(carrier.id)
        self.counts.carriers.inc()
        try:
            await carrier.run(self._carrier_log)
        finally:
            self.counts.carriers.dec()
            del self._carriers[carrier.id]
            remaining = self._of_tunnel[carrier.id.connection_id]
            remaining.discard(carrier.id)
            if not remaining:
                del self._of_tunnel[carrier.id.connection_id]
            if not self._carriers:
                self._emptied.set()

    async def _wait(self, leg: Leg, carrier: CarrierId) -> None:
        try:
            await asyncio.wait({leg.first, leg.summons}, return_when=asyncio.FIRST_COMPLETED)
            if not leg.summons.done() and not isinstance(leg.first.result(), StreamLost):
                # It sent something before it was joined, which `Leg.recv` will hand out.
                await asyncio.wait({leg.summons})
        finally:
            if not leg.summons.done():
                self._table.leave(carrier, leg.party)
                self._waiting.pop(carrier, None)
                self._arm()
                leg.summons.cancel()
        if leg.summons.cancelled():
            _log.debug("a leg left before it was joined", connection_id=carrier.connection_id)
            await leg.close(1000, "")
            return
        summons = leg.summons.result()
        if isinstance(summons, RelayGoodbye):
            await leg.dismiss(summons)
        else:
            await summons.finished.wait()

    def decline(self, carrier: CarrierId, message: str, cause: str = "", actor: str = "") -> None:
        """The agent cannot take this carrier: the client's leg is told, now or when it comes."""
        if self._table.decline(carrier, message, self._clock.now()):
            self._send_away(carrier, RelayGoodbye(cause=cause, actor=actor, detail=message))
            self._arm()

    def end(self, connection_id: str, goodbye: RelayGoodbye) -> None:
        """End all carriers of a tunnel that somebody decided to end, and refuse further ones."""
        for key in self._of_tunnel.get(connection_id, ()):
            self._carriers[key].leave(goodbye)
        message = goodbye.detail or cause_of(goodbye.cause).title
        for key in self._table.decline_all(connection_id, message, self._clock.now()):
            self._send_away(key, goodbye)
        self._arm()

    # -- leaving ----------------------------------------------------------------------------

    def announce(self, reconnect_in_s: float) -> None:
        """Tell every joined leg that this relay restarts, so that tunnels move. Nothing ends by it."""
        restarting = Restarting(reconnect_in_s=reconnect_in_s)
        for carrier in list(self._carriers.values()):
            if not carrier.over.is_set():
                for leg in (carrier.client, carrier.agent):
                    self._tasks.spawn(leg.tell(restarting), "announce")

    def refuse_new(self, goodbye: RelayGoodbye) -> None:
        """Take no new leg, and send away those that wait for their other one."""
        self._stopped = goodbye
        for carrier in list(self._waiting):
            self._table.leave(carrier, self._waiting[carrier].party)
            self._send_away(carrier, goodbye, "relay_stopping")
        self._arm()

    async def wait_empty(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds until no carrier is left; whether none is."""
        try:
            async with asyncio.timeout(timeout):
                while self._carriers:
                    self._emptied.clear()
                    await self._emptied.wait()
        except TimeoutError:
            return False
        return True

    def stop(self, goodbye: RelayGoodbye) -> list[CarrierId]:
        """End every carrier and take no new one. Returns the carriers that lived until now."""
        self.refuse_new(goodbye)
        lived = self.living()
        for carrier in lived:
            self._carriers[carrier].leave(goodbye)
        return lived

    async def aclose(self) -> None:
        """End the relay's own tasks. Call after `stop`, when the legs have been served."""
        if self._timer is not None:
            self._timer.cancel()
        await self._tasks.cancel()

    def _send_away(
        self, carrier: CarrierId, goodbye: RelayGoodbye, reason: str = "declined"
    ) -> None:
        leg = self._waiting.pop(carrier, None)
        if leg is not None and not leg.summons.done():
            self.counts.refused(reason)
            leg.summons.set_result(goodbye)

    # -- time -------------------------------------------------------------------------------

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self._table.deadline()
        if deadline is not None:
            wait = max(0.0, deadline - self._clock.now().mono)
            self._timer = asyncio.get_running_loop().call_later(wait, self._expire)

    def _expire(self) -> None:
        for given_up in self._table.expire(self._clock.now()):
            self._give_up(given_up)
        self._arm()

    def _give_up(self, given_up: GiveUp) -> None:
        _log.info(
            "carrier was not joined",
            connection_id=given_up.carrier.connection_id,
            carrier=given_up.carrier.number,
            waiting=str(given_up.leg),
            detail=given_up.message,
        )
        goodbye = RelayGoodbye(cause="", detail=given_up.message)
        self._send_away(given_up.carrier, goodbye, "not_joined")

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._watch_every_s)
            for carrier in list(self._carriers.values()):
                if not carrier.over.is_set():
                    carrier.watch(self._silent_after_ms)
