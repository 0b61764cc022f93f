"""When the certificate of a listener runs out, as a metric.

Law: one gauge for server and relay alike; where no TLS is spoken, it is not there.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Gauge


def certificate_gauge(registry: CollectorRegistry) -> Callable[[float], None]:
    """Takes the moment at which the certificate in use runs out (unix seconds)."""
    gauge: list[Gauge] = []

    def expires(at: float) -> None:
        if not gauge:
            gauge.append(
                Gauge(
                    "tether_tls_certificate_expires_at_seconds",
                    "When the TLS certificate in use runs out (unix seconds).",
                    registry=registry,
                )
            )
        gauge[0].set(at)

    return expires
