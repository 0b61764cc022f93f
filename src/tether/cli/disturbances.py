"""What may have cut every connection of this machine at once: a changed network, and sleep.

Law: only hands on that something happened. A process that was stopped has lost no packet, but judges
its peers by the time that it missed: so that is told, too.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from tether.net.clock import clocks_of
from tether.net.network_watch import NetworkWatch
from tether.net.time_watch import ClockSet, TimeEvent, TimeWatch


def watch(on_disturbance: Callable[[], None]) -> Callable[[], None]:
    """Watch in the running loop; call the answer to stop."""

    def told(event: TimeEvent) -> None:
        if not isinstance(event, ClockSet):
            on_disturbance()

    network = NetworkWatch(lambda _: on_disturbance())
    time = TimeWatch(clocks_of(os.environ), told)
    network.start()
    time.start()

    def stop() -> None:
        network.stop()
        time.stop()

    return stop
