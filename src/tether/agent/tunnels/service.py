"""What serves a tunnel: the same few calls, whatever the tunnel is for.

Law: an interface, and what comes back, and is logged, when a served tunnel is over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from tether.attribution import evidence as ev
from tether.attribution.classify import classify
from tether.attribution.disconnect import CloseCell
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import ConnectType, Party, Vantage
from tether.log import Logger, disconnected
from tether.net.tunnel.endpoint import TunnelEndpoint
from tether.net.tunnel.stream import TunnelStream
from tether.protocol.messages.tunnel import TunnelOffer
from tether.protocol.timestamp import Timestamp


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionEnd:
    """One served tunnel that is over."""

    connection_id: str
    cell: CloseCell
    connected_at: Timestamp
    ended_at: Timestamp
    rx_bytes: int
    tx_bytes: int
    user: str
    client_ip: str


def end_of(
    log: Logger,
    event: str,
    tunnel: TunnelEndpoint,
    offer: TunnelOffer,
    connected_at: Timestamp,
    now: Timestamp,
) -> ConnectionEnd:
    """What came of a tunnel that is over, and its one log line `event`.

    A cell without a cause is one of a task that was cancelled without any: a failure of ours.
    """
    cell = tunnel.cell
    if not cell.ended:
        cell.offer(
            ev.InternalFailure(
                vantage=Vantage.AGENT,
                at=now.wall,
                party=Party.AGENT,
                what="cancelled without a cause",
            )
        )
    disconnected(
        log,
        event,
        classify(ConnectType.AGENT_TO_CLIENT, cell.facts).disconnect,
        connection_id=offer.connection_id,
        connection_method=str(tunnel.stream.method),
        duration_s=round(now.mono - connected_at.mono, 3),
        rx_bytes=tunnel.rx_bytes,
        tx_bytes=tunnel.tx_bytes,
        user=offer.user,
        client_ip=offer.client_ip,
        client_session_id=offer.client_session_id,
    )
    return ConnectionEnd(
        connection_id=offer.connection_id,
        cell=cell,
        connected_at=connected_at,
        ended_at=now,
        rx_bytes=tunnel.rx_bytes,
        tx_bytes=tunnel.tx_bytes,
        user=offer.user,
        client_ip=offer.client_ip,
    )


def leave_each(
    tunnels: Mapping[str, TunnelEndpoint],
    connection_ids: Iterable[str] | None,
    fact: Evidence,
    *,
    cause: str,
    actor: str,
    detail: str,
) -> None:
    """Say goodbye because of `fact` on these of `tunnels` (None: all; unknown ones are ignored)."""
    wanted = set(tunnels if connection_ids is None else connection_ids)
    for connection_id in wanted & tunnels.keys():
        tunnels[connection_id].driver.leave_because(fact, cause=cause, actor=actor, detail=detail)


class TunnelServing(Protocol):
    """Serves tunnels of one purpose."""

    async def serve(self, stream: TunnelStream, offer: TunnelOffer) -> ConnectionEnd:
        """Serve one tunnel to its end. Raises nothing but CancelledError."""

    def end(
        self,
        connection_ids: Iterable[str] | None,
        *,
        fact: Evidence,
        cause: str,
        actor: str = "",
        detail: str = "",
        announcement: str = "",
    ) -> None:
        """End these (None: all; unknown ones are ignored) because of `fact`."""
