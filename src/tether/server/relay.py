"""The embedded DERP relay: pairs the legs of tunnels, and knows which tunnels live.

Law: a leg comes with a good ticket and is served until it is over; a leg without its other one is told
so in time. What happens between two legs is `relay_tunnel.py`'s.
"""

from __future__ import annotations

import asyncio

from tether.attribution.causes import cause_of
from tether.attribution.vocabulary import Party
from tether.log import get_logger
from tether.net.clock import Clock
from tether.net.streams import StreamLost
from tether.net.tasks import Tasks
from tether.net.tcp_info import SILENT_AFTER_MS
from tether.net.ws_server import ServerStream
from tether.protocol.relay_pairing import GiveUp, Join, PairingTable, Refuse, Wait
from tether.protocol.relaying import RelayGoodbye
from tether.server.metrics import Metrics
from tether.server.relay_tunnel import Leg, Tunnel, TunnelLog
from tether.server.tickets import Ticket

WATCH_EVERY_S = 5.0
"""How often the kernel is asked how the legs are."""

_log = get_logger("relay")


class Relay:
    """Accepts legs, pairs them, and knows which tunnels live."""

    def __init__(
        self,
        *,
        log: TunnelLog,
        clock: Clock,
        metrics: Metrics,
        table: PairingTable | None = None,
        watch_every_s: float = WATCH_EVERY_S,
        silent_after_ms: int = SILENT_AFTER_MS,
    ) -> None:
        self._tunnel_log, self._clock, self._metrics = log, clock, metrics
        self._table = PairingTable() if table is None else table
        self._waiting: dict[str, Leg] = {}
        self._tunnels: dict[str, Tunnel] = {}
        self._stopped: RelayGoodbye | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._watch_every_s, self._silent_after_ms = watch_every_s, silent_after_ms
        self._tasks = Tasks("relay")
        self._watchdog: asyncio.Task[None] | None = None

    def lives(self, connection_id: str) -> bool:
        """Whether the tunnel is joined and neither leg has ended."""
        tunnel = self._tunnels.get(connection_id)
        return tunnel is not None and not tunnel.over.is_set()

    def __len__(self) -> int:
        return len(self._tunnels)

    async def serve(self, stream: ServerStream, ticket: Ticket) -> None:
        """Serve one leg, accepted and with a good ticket, until it is over."""
        leg = Leg(ticket.leg, stream, self._tasks)
        self._metrics.relay_legs.inc()
        try:
            await self._serve(leg, ticket.connection_id)
        finally:
            self._metrics.relay_legs.dec()
            await leg.release()

    async def _serve(self, leg: Leg, connection_id: str) -> None:
        if self._stopped is not None:
            await leg.dismiss(self._stopped, 1001)
            return
        match self._table.arrive(connection_id, leg.party, self._clock.now()):
            case Refuse(message=message):
                await leg.dismiss(RelayGoodbye(cause="", detail=message))
            case Wait():
                self._waiting[connection_id] = leg
                self._arm()
                await self._wait(leg, connection_id)
            case Join():
                self._arm()
                first = self._waiting.pop(connection_id)
                client, agent = (first, leg) if leg.party is Party.AGENT else (leg, first)
                tunnel = Tunnel(connection_id, client, agent, self._clock, self._metrics)
                first.summons.set_result(tunnel)
                await self._host(tunnel)

    async def _host(self, tunnel: Tunnel) -> None:
        if self._watchdog is None:
            self._watchdog = self._tasks.spawn(self._watch(), "watchdog")
        self._tunnels[tunnel.connection_id] = tunnel
        try:
            await tunnel.run(self._tunnel_log)
        finally:
            del self._tunnels[tunnel.connection_id]

    async def _wait(self, leg: Leg, connection_id: str) -> None:
        try:
            await asyncio.wait({leg.first, leg.summons}, return_when=asyncio.FIRST_COMPLETED)
            if not leg.summons.done() and not isinstance(leg.first.result(), StreamLost):
                await asyncio.wait({leg.summons})  # it talks before it is joined: that keeps
        finally:
            if not leg.summons.done():
                self._table.leave(connection_id, leg.party)
                self._waiting.pop(connection_id, None)
                self._arm()
                leg.summons.cancel()
        if leg.summons.cancelled():
            _log.debug("a leg left before it was joined", connection_id=connection_id)
            await leg.stream.close(1000, "")
            return
        summons = leg.summons.result()
        if isinstance(summons, RelayGoodbye):
            await leg.dismiss(summons)
        else:
            await summons.finished.wait()

    def decline(self, connection_id: str, message: str) -> None:
        """The agent cannot take this tunnel: tell the client's leg, now or when it comes."""
        if self._table.decline(connection_id, message, self._clock.now()):
            self._send_away(connection_id, RelayGoodbye(cause="", detail=message))
            self._arm()

    def end(self, connection_id: str, goodbye: RelayGoodbye) -> None:
        """Somebody decided that this tunnel shall end, or not come to be."""
        tunnel = self._tunnels.get(connection_id)
        if tunnel is not None:
            tunnel.leave(goodbye)
            return
        message = goodbye.detail or cause_of(goodbye.cause).title
        if self._table.decline(connection_id, message, self._clock.now()):
            self._send_away(connection_id, goodbye)
            self._arm()

    def stop(self, goodbye: RelayGoodbye) -> list[str]:
        """Leave every tunnel and take no new one; the tunnels that lived until now."""
        self._stopped = goodbye
        for connection_id in list(self._waiting):
            self._table.leave(connection_id, self._waiting[connection_id].party)
            self._send_away(connection_id, goodbye)
        self._arm()
        lived = [connection_id for connection_id in self._tunnels if self.lives(connection_id)]
        for connection_id in lived:
            self._tunnels[connection_id].leave(goodbye)
        return lived

    async def aclose(self) -> None:
        """End the relay's own tasks. Call after `stop`, when the legs have been served."""
        if self._timer is not None:
            self._timer.cancel()
        await self._tasks.cancel()

    def _send_away(self, connection_id: str, goodbye: RelayGoodbye) -> None:
        leg = self._waiting.pop(connection_id, None)
        if leg is not None and not leg.summons.done():
            leg.summons.set_result(goodbye)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self._table.deadline()
        if deadline is not None:
            wait = max(0.0, deadline - self._clock.now().mono)
            self._timer = asyncio.get_running_loop().call_later(wait, self._expire)

    def _expire(self) -> None:
        for over in self._table.expire(self._clock.now()):
            self._give_up(over)
        self._arm()

    def _give_up(self, over: GiveUp) -> None:
        _log.info(
            "tunnel was not joined",
            connection_id=over.connection_id,
            waiting=str(over.leg),
            detail=over.message,
        )
        self._send_away(over.connection_id, RelayGoodbye(cause="", detail=over.message))

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._watch_every_s)
            for tunnel in list(self._tunnels.values()):
                if not tunnel.over.is_set():
                    tunnel.watch(self._silent_after_ms)
