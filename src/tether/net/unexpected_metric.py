"""`tether_unexpected_exceptions_total{where}` for Prometheus, the same in every program.

Law: tells what `tether.net.unexpected` counts, and counts nothing itself.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from tether.net.unexpected import COUNTS


class UnexpectedExceptions(Collector):
    """Register one in the registry of each program."""

    def collect(self) -> Iterator[Metric]:
        """The one family."""
        family = CounterMetricFamily(
            "tether_unexpected_exceptions",
            "Exceptions that no table foresees: each was caught, and the first of its kind at its"
            " place is in the log with its traceback.",
            labels=["where"],
        )
        for where, count in sorted(COUNTS.items()):
            family.add_metric([where], count)
        yield family
