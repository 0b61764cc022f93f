"""What serves a tunnel: the same few calls, whatever the tunnel is for.

Law: an interface, and what comes back when a served tunnel is over.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from tether.attribution.disconnect import CloseCell
from tether.attribution.evidence import Evidence
from tether.net.resumable import ResumableStream
from tether.protocol.instant import Instant
from tether.protocol.messages import TunnelOffer


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionEnd:
    """One served tunnel that is over."""

    connection_id: str
    cell: CloseCell
    connected_at: Instant
    ended_at: Instant
    rx_bytes: int
    tx_bytes: int
    user: str
    client_ip: str


class TunnelServing(Protocol):
    """Serves tunnels of one purpose."""

    async def serve(self, stream: ResumableStream, offer: TunnelOffer) -> ConnectionEnd:
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
