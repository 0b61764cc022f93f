"""A tunnel that only measures: what `tether ping` and `tether speedtest` run over.

Law: bounded in time. It is made as the tunnel of an `ssh` is, so that what is measured is what a session
gets; it leaves with a goodbye, and its end is told if it was not ours.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from tether.attribution.causes.codes import CLIENT_CLOSED
from tether.attribution.vocabulary import ConnectionMethod, Party, Purpose
from tether.client.connection import ClientConnection
from tether.client.errors import EXIT_CONNECTION_FAILED, Failure
from tether.client.outcome import fact_of, judge
from tether.net.clock import Clock, SystemClock
from tether.net.tasks import Tasks
from tether.net.tunnel.endpoint import TunnelEndpoint
from tether.net.tunnel.stream import TunnelStream
from tether.protocol.carriers.commands import TIMED_OUT, Over
from tether.protocol.messages.base import Message
from tether.protocol.messages.codec import TUNNEL_CHUNK
from tether.protocol.messages.probe import ProbeMode, ProbeResult, ProbeStart, ProbeStop
from tether.protocol.tunnel.events import Answered, PathEvent
from tether.version import VERSION

LEAVE_S = 3.0
RESULT_S = 15.0
"""How long the agent may take to say what it has counted, after the last byte was sent."""


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """One round trip. `rtt_s` is None where nothing came back in time."""

    rtt_s: float | None
    method: ConnectionMethod
    where: str


class ProbeClient:
    """One such tunnel; see `probing`."""

    def __init__(self, workspace: str, stream: TunnelStream, clock: Clock) -> None:
        self._workspace = workspace
        self._stream = stream
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._answered: asyncio.Future[tuple[int, float]] = self._loop.create_future()
        self._result: asyncio.Future[ProbeResult] = self._loop.create_future()
        self._arrived = 0
        self._tasks = Tasks("probe")
        self.told = ""
        self.tunnel = TunnelEndpoint(
            stream,
            me=Party.CLIENT,
            peer=Party.AGENT,
            clock=clock,
            version=VERSION,
            on_data=self._data,
            on_message=self._message,
        )
        stream.listen(self._happened)
        self._over = self._tasks.spawn(self.tunnel.run(), "tunnel")

    async def ping(self, timeout: float) -> RoundTrip:
        """One round trip over the carrier in use.

        Raises:
            Failure: the tunnel is over.
        """
        self._answered = self._loop.create_future()
        asked = self._stream.in_use
        carrier = self._stream.carrier(asked)
        if carrier is not None:
            self._stream.ping(asked)
        await self._wait_for(self._answered, timeout)
        if self._answered.done():
            number, rtt_s = self._answered.result()
            carrier = self._stream.carrier(number) or carrier
        else:
            rtt_s = None
        method = ConnectionMethod.NONE if carrier is None else carrier.method
        return RoundTrip(rtt_s, method, "" if carrier is None else carrier.where)

    async def send_for(self, seconds: float) -> ProbeResult:
        """Send for so long; what the agent has counted.

        Raises:
            Failure: the tunnel is over, or the agent does not answer.
        """
        self._result = self._loop.create_future()
        self.tunnel.send(ProbeStart(mode=ProbeMode.SINK))
        block, until = bytes(range(256)) * (TUNNEL_CHUNK // 256), self._loop.time() + seconds
        while self._loop.time() < until and not self._over.done():
            self.tunnel.write(block)
            await self.tunnel.drain()
            await asyncio.sleep(0)  # what the agent says must be heard meanwhile
        self.tunnel.send(ProbeStop())
        return await self._outcome(RESULT_S)

    async def receive_for(self, seconds: float) -> ProbeResult:
        """Be sent to for so long; what arrived here, and in which time.

        Raises:
            Failure: likewise.
        """
        self._result = self._loop.create_future()
        self._arrived = 0
        began = self._loop.time()
        self.tunnel.send(ProbeStart(mode=ProbeMode.SOURCE, seconds=seconds))
        await self._outcome(seconds + RESULT_S)
        return ProbeResult(
            mode=ProbeMode.SOURCE, bytes=self._arrived, seconds=self._loop.time() - began
        )

    async def pause(self, seconds: float) -> None:
        """Wait, unless the tunnel ends.

        Raises:
            Failure: it did.
        """
        await self._wait_for(self._loop.create_future(), seconds)

    def no_way(self, over: Over) -> None:
        """No carrier will be found any more."""
        self.told = over.message
        if over.code == TIMED_OUT:
            self.tunnel.give_up()
        else:
            self.tunnel.cut(fact_of(over, self._clock.now().wall))

    async def leave(self) -> None:
        """Say goodbye, and wait until that is acknowledged."""
        self.tunnel.leave(CLIENT_CLOSED)
        await asyncio.wait([self._over], timeout=LEAVE_S)
        await self._tasks.cancel()

    async def _outcome(self, timeout: float) -> ProbeResult:
        await self._wait_for(self._result, timeout)
        if not self._result.done():
            raise Failure("the workspace's agent did not say what it has counted")
        return self._result.result()

    async def _wait_for(self, future: asyncio.Future[Any], timeout: float) -> None:
        either: list[asyncio.Future[Any]] = [future, self._over]
        done, _ = await asyncio.wait(either, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if self._over in done:
            outcome = judge(self.tunnel.cell, "", self._workspace, told=self.told)
            raise Failure(outcome.sentence or "the tunnel was closed", EXIT_CONNECTION_FAILED)

    def _data(self, data: memoryview) -> None:
        self._arrived += len(data)

    def _message(self, message: Message) -> None:
        if isinstance(message, ProbeResult) and not self._result.done():
            self._result.set_result(message)

    def _happened(self, event: PathEvent) -> None:
        if isinstance(event, Answered) and not self._answered.done():
            self._answered.set_result((event.carrier, event.rtt_s))


@contextlib.asynccontextmanager
async def probing(workspace: str, env: Mapping[str, str]) -> AsyncIterator[ProbeClient]:
    """A tunnel to measure.

    Raises:
        Failure: none came up.
        DialFailed: the server could not be reached.
    """
    probes: list[ProbeClient] = []
    clock = SystemClock()

    def no_way(over: Over) -> None:
        for probe in probes:
            probe.no_way(over)

    connection = ClientConnection(
        workspace,
        env,
        clock=clock,
        purpose=Purpose.PROBE,
        on_over=no_way,
    )
    try:
        probes.append(ProbeClient(workspace, await connection.open(), clock))
        try:
            yield probes[0]
        finally:
            await probes[0].leave()
    finally:
        await connection.close(probes[0].tunnel if probes else None)
