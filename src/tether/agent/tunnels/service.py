"""Tunnels that are served: the same few calls, whatever a tunnel is for.

Law: a tunnel that is served ends in one `ConnectionEnd` and in one log line. How it ended is judged
once, here, and handed on with the end. Whoever ends tunnels brings an `EndOrder`, whose fact is in each
cell before anything is closed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from tether.attribution import evidence as ev
from tether.attribution.classify import classify
from tether.attribution.disconnect import CloseCell, Disconnect
from tether.attribution.vocabulary import ConnectType, Party, Vantage
from tether.log import Logger, disconnected
from tether.net.clock import Clock
from tether.net.tunnel.endpoint import TunnelEndpoint
from tether.net.tunnel.stream import TunnelStream
from tether.protocol.messages.tunnel import TunnelOffer
from tether.protocol.timestamp import Timestamp


@dataclass(frozen=True, slots=True)
class EndOrder:
    """Why tunnels are being ended."""

    said: ev.GoodbyeSaid
    """What ends them: the fact for the cells, and the cause, actor and detail of our goodbye."""
    announcement: str
    """The one line that terminals are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionEnd:
    """One served tunnel that is over."""

    connection_id: str
    cell: CloseCell
    disconnect: Disconnect
    """What `cell` comes to."""
    connected_at: Timestamp
    ended_at: Timestamp
    rx_bytes: int
    tx_bytes: int


class ServedTunnel(ABC):
    """One tunnel that is being served."""

    tunnel: TunnelEndpoint
    _disconnect: Disconnect | None = None

    @property
    def cell(self) -> CloseCell:
        """What is known about the end."""
        return self.tunnel.cell

    @abstractmethod
    async def run(self) -> object:
        """Serve until the tunnel is over. Call it once."""

    def end(self, order: EndOrder) -> None:
        """End because of `order`; `run` returns soon after."""
        said = order.said
        self.tunnel.leave(said.cause, because=said, actor=said.actor, detail=said.detail)

    def judged(self, now: Timestamp) -> Disconnect:
        """How the tunnel ended. It is judged at the first call, which is made at the end only.

        A cell without a cause is that of a task which was cancelled without one: a failure of ours.
        """
        if self._disconnect is None:
            if not self.cell.ended:
                self.cell.offer(
                    ev.InternalFailure(
                        vantage=Vantage.AGENT,
                        at=now.wall,
                        party=Party.AGENT,
                        what="cancelled without a cause",
                    )
                )
            verdict = classify(ConnectType.AGENT_TO_CLIENT, self.cell.facts)
            self._disconnect = verdict.disconnect
        return self._disconnect


class TunnelServing(Protocol):
    """Serves tunnels of one purpose."""

    async def serve(self, stream: TunnelStream, offer: TunnelOffer) -> ConnectionEnd:
        """Serve one tunnel to its end. Raises nothing but CancelledError."""

    def end(self, connection_ids: Iterable[str] | None, order: EndOrder) -> None:
        """End these (None: all; unknown ones are ignored) because of `order`."""


S = TypeVar("S", bound=ServedTunnel)


class TunnelService(Generic[S]):
    """A `TunnelServing`: runs the tunnels of one purpose, and knows those that run now."""

    def __init__(
        self,
        make: Callable[[TunnelStream, TunnelOffer], S],
        *,
        clock: Clock,
        log: Logger,
        event: str,
        on_end: Callable[[S, ConnectionEnd], None] = lambda served, end: None,
    ) -> None:
        """`make` makes what serves one tunnel; `event` names the log line of its end, and `on_end`
        is told of each end after that line."""
        self._make = make
        self._clock = clock
        self._log = log
        self._event = event
        self._on_end = on_end
        self.live: dict[str, S] = {}
        """What is being served now, by connection id."""

    async def serve(self, stream: TunnelStream, offer: TunnelOffer) -> ConnectionEnd:
        """Serve one tunnel to its end; cancelled, its end is logged and told all the same.

        Raises:
            ValueError: the offer's key is none of this purpose, which the server should have seen.
        """
        connected_at = self._clock.now()
        served = self.live[offer.connection_id] = self._make(stream, offer)
        try:
            await served.run()
        finally:
            del self.live[offer.connection_id]
            end = self._ended(served, offer, connected_at)
        return end

    def end(self, connection_ids: Iterable[str] | None, order: EndOrder) -> None:
        """End these (None: all; unknown ones are ignored) because of `order`."""
        wanted = set(self.live if connection_ids is None else connection_ids)
        for connection_id in wanted & self.live.keys():
            self.live[connection_id].end(order)

    def _ended(self, served: S, offer: TunnelOffer, connected_at: Timestamp) -> ConnectionEnd:
        now, tunnel = self._clock.now(), served.tunnel
        end = ConnectionEnd(
            connection_id=offer.connection_id,
            cell=served.cell,
            disconnect=served.judged(now),
            connected_at=connected_at,
            ended_at=now,
            rx_bytes=tunnel.rx_bytes,
            tx_bytes=tunnel.tx_bytes,
        )
        disconnected(
            self._log,
            self._event,
            end.disconnect,
            connection_id=offer.connection_id,
            connection_method=str(tunnel.stream.method),
            duration_s=round(now.mono - connected_at.mono, 3),
            rx_bytes=tunnel.rx_bytes,
            tx_bytes=tunnel.tx_bytes,
            user=offer.user,
            client_ip=offer.client_ip,
            client_session_id=offer.client_session_id,
        )
        self._on_end(served, end)
        return end
