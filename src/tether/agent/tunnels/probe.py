"""A tunnel that only measures itself: echoes, sinks and sources of bytes for `tether speedtest`.

Law: no shell, no files, no memory of what passed, and nothing of SSH. A source is bounded in time and
slows down with its reader. Such a tunnel ends and is recorded like any other: when the client leaves,
or by whoever ends the agent's tunnels.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable

from tether.agent.tunnels.service import ServedTunnel, TunnelService
from tether.attribution.disconnect import CloseCell
from tether.attribution.vocabulary import Party
from tether.log import get_logger
from tether.net.clock import Clock
from tether.net.tasks import Tasks
from tether.net.tunnel.endpoint import TunnelEndpoint
from tether.net.tunnel.stream import TunnelStream
from tether.protocol.messages.base import Message
from tether.protocol.messages.codec import TUNNEL_CHUNK
from tether.protocol.messages.probe import (
    MAX_PROBE_S,
    ProbeMode,
    ProbeResult,
    ProbeStart,
    ProbeStop,
)
from tether.version import VERSION

_log = get_logger("probe")


def probes(*, clock: Clock) -> TunnelService[ProbeTunnel]:
    """Serves the tunnels of the purpose `probe`."""
    return TunnelService(
        lambda stream, offer: ProbeTunnel(stream, clock=clock),
        clock=clock,
        log=_log,
        event="probe closed",
    )


class ProbeTunnel(ServedTunnel):
    """One such tunnel."""

    def __init__(self, stream: TunnelStream, *, clock: Clock) -> None:
        self._clock = clock
        self._tasks = Tasks("probe")
        self._mode = ""  # a `ProbeMode`; "" before the first start
        self._bytes = 0  # received since the last start
        self._began = 0.0  # monotonic seconds of the last start
        self._source: asyncio.Task[None] | None = None  # sends, in the mode `source`
        self._enough = asyncio.Event()  # asks that task to stop
        self.tunnel = TunnelEndpoint(
            stream,
            me=Party.AGENT,
            peer=Party.CLIENT,
            clock=clock,
            version=VERSION,
            on_data=self._data,
            on_message=self._message,
        )

    async def run(self) -> CloseCell:
        """Serve until the tunnel is over."""
        try:
            return await self.tunnel.run()
        finally:
            await self._tasks.cancel()

    def _data(self, data: memoryview) -> Awaitable[None] | None:
        self._bytes += len(data)
        if self._mode != ProbeMode.ECHO:
            return None
        self.tunnel.write(data)
        return self.tunnel.drain()

    def _message(self, message: Message) -> None:
        match message:
            case ProbeStart(mode=mode, seconds=seconds):
                self._stop_source()
                self._mode = mode
                self._bytes = 0
                self._began = self._clock.now().mono
                if mode == ProbeMode.SOURCE:
                    self._enough = asyncio.Event()
                    source = self._flow(min(seconds, MAX_PROBE_S), self._enough)
                    self._source = self._tasks.spawn(source, "source")
            case ProbeStop() if self._source is None:
                self._result(self._bytes)
            case ProbeStop():
                self._stop_source()
            case _:
                pass  # a newer client has more to say

    def _stop_source(self) -> None:
        self._enough.set()
        self._source = None

    async def _flow(self, seconds: float, enough: asyncio.Event) -> None:
        block, sent = os.urandom(TUNNEL_CHUNK), 0  # nothing on the way can shrink it
        until = self._began + seconds
        while (
            not enough.is_set()
            and self.tunnel.is_open  # what is written to one that ends is dropped
            and self._clock.now().mono < until
        ):
            self.tunnel.write(block)
            sent += len(block)
            await self.tunnel.drain()
            await asyncio.sleep(0)  # a stop must be heard, and other tunnels served
        self._source = None
        self._result(sent)

    def _result(self, count: int) -> None:
        seconds = self._clock.now().mono - self._began
        self.tunnel.send(ProbeResult(mode=self._mode, bytes=count, seconds=round(seconds, 6)))
