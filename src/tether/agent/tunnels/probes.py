"""Tunnels that only measure themselves: served until their client leaves, and recorded like any other.

Law: knows no SSH. What `probe.py` does on one tunnel, this does for all of them, with their ends.
"""

from __future__ import annotations

from collections.abc import Iterable

from tether.agent.tunnels.probe import ProbeTunnel
from tether.agent.tunnels.service import ConnectionEnd, end_of, leave_each
from tether.attribution.evidence import Evidence
from tether.log import get_logger
from tether.net.clock import Clock
from tether.net.tunnel.stream import TunnelStream
from tether.protocol.messages.tunnel import TunnelOffer

_log = get_logger("probe")


class Probes:
    """Serves tunnels of the purpose `probe`."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._probes: dict[str, ProbeTunnel] = {}

    async def serve(self, stream: TunnelStream, offer: TunnelOffer) -> ConnectionEnd:
        """Serve one tunnel to its end."""
        connected_at = self._clock.now()
        probe = self._probes[offer.connection_id] = ProbeTunnel(stream, clock=self._clock)
        try:
            await probe.run()
        finally:
            del self._probes[offer.connection_id]
            now = self._clock.now()
            end = end_of(_log, "probe closed", probe.tunnel, offer, connected_at, now)
        return end

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
        """End these tunnels, or all of them."""
        tunnels = {name: probe.tunnel for name, probe in self._probes.items()}
        leave_each(tunnels, connection_ids, fact, cause=cause, actor=actor, detail=detail)
