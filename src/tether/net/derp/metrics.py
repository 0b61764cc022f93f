"""A relay's numbers for Prometheus, the same for the embedded relay and a standalone one.

Law: counts only. The reasons of refusals are a closed set, so that no peer can create time series.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

REFUSED_LEGS = (
    "ticket_invalid",
    "ticket_expired",
    "ticket_spent",
    "relay_busy",
    "relay_stopping",
    "too_many_legs",
    "not_joined",
    "declined",
    "silent_connection",
)
"""Why a leg was turned away, or let go before it was joined."""


class RelayCounts:
    """The metrics of one relay, in a registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.legs = Gauge("tether_relay_legs", "Legs at the relay now.", registry=registry)
        self.carriers = Gauge(
            "tether_relay_carriers",
            "Joined pairs of legs now: carriers of tunnels, a tunnel may have two.",
            registry=registry,
        )
        self.bytes = Counter(
            "tether_relay_bytes_total", "Bytes that the relay copied, both ways.", registry=registry
        )
        self.paused = Counter(
            "tether_relay_paused_seconds_total",
            "Seconds for which carriers were held back by their bandwidth limit.",
            registry=registry,
        )
        self._ended = Counter(
            "tether_relay_carriers_ended_total",
            "Carriers that ended, by the party whose stream was first (relay: we left them).",
            ["by"],
            registry=registry,
        )
        self._refused = Counter(
            "tether_relay_legs_refused_total",
            "Legs that were turned away or let go unjoined, by reason.",
            ["reason"],
            registry=registry,
        )
        for reason in REFUSED_LEGS:
            self._refused.labels(reason)
        for by in ("client", "agent", "relay"):
            self._ended.labels(by)

    def refused(self, reason: str) -> None:
        """Count one leg; `reason` is one of `REFUSED_LEGS`."""
        assert reason in REFUSED_LEGS, reason
        self._refused.labels(reason).inc()

    def ended(self, by: str) -> None:
        """Count one carrier's end."""
        self._ended.labels(by).inc()
