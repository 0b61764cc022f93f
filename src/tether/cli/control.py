"""The client's control link: ask for a tunnel, and report afterwards what was seen of its end.

Law: one link per `ssh`, not redialled: a tunnel outlives it. Whatever goes wrong before the tunnel is
up is one sentence for the user, in the server's words where it had any.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Protocol

from tether.attribution.classify import classify
from tether.attribution.disconnect import CloseCell
from tether.attribution.explain import explain
from tether.attribution.vocabulary import ConnectType, Party, Vantage
from tether.cli.failure import Failure
from tether.net.clock import Clock
from tether.net.driver import LinkDriver
from tether.net.streams import MessageStream
from tether.net.tasks import Tasks
from tether.protocol.link import Link, records_of
from tether.protocol.messages import (
    PROTOCOL,
    Ended,
    Garbage,
    Goodbye,
    Hello,
    Message,
    Report,
    ReportAck,
    TunnelDenied,
    TunnelGrant,
    TunnelRequest,
    Welcome,
    decode,
    encode,
)
from tether.version import VERSION

GRANT_TIMEOUT_S = 20.0
REPORT_TIMEOUT_S = 1.0
_OWN = (Vantage.CLIENT, Vantage.RELAY)


class Seen(Protocol):
    """What a report is made of: one end of a tunnel."""

    rx_bytes: int
    tx_bytes: int

    @property
    def cell(self) -> CloseCell: ...


class ControlLink:
    """Call `request_tunnel` first, once; then `report`; `leave` last."""

    def __init__(self, stream: MessageStream, clock: Clock) -> None:
        self._clock = clock
        self._instance = os.urandom(16).hex()
        loop = asyncio.get_running_loop()
        self._granted: asyncio.Future[TunnelGrant] = loop.create_future()
        self._reported: asyncio.Future[None] = loop.create_future()
        self._tasks = Tasks("control")
        self._goodbye: Goodbye | None = None
        self._driver = LinkDriver(
            stream=stream,
            link=Link(me=Party.CLIENT, peer=Party.SERVER, now=clock.now()),
            clock=clock,
            pack=encode,
            unpack=decode,
            deliver=self._deliver,
        )
        self._running = self._tasks.spawn(self._run(), "run")

    async def request_tunnel(self, workspace: str, public_key: str) -> TunnelGrant:
        """Ask to be joined to a workspace's agent.

        Raises:
            Failure: the server said no, or the link ended first.
        """
        # Both at once: the server reads them in order, and a round trip is saved.
        self._driver.send(
            Hello(
                protocol=PROTOCOL,
                role="client",
                version=VERSION,
                instance_id=self._instance,
                hostname=socket.gethostname(),
            )
        )
        self._driver.send(TunnelRequest(request_id=1, workspace=workspace, public_key=public_key))
        try:
            async with asyncio.timeout(GRANT_TIMEOUT_S):
                return await self._granted
        except TimeoutError:
            raise Failure("the server did not answer the request for a tunnel in time") from None

    async def report(self, connection_id: str, seen: Seen) -> bool:
        """Tell the server what we saw of a tunnel's end; True if it has committed that."""
        own = tuple(fact for fact in seen.cell.facts if fact.vantage in _OWN)
        later = tuple(fact for fact in seen.cell.symptoms if fact.vantage in _OWN)
        ended = Ended(
            connection_id=connection_id,
            at=self._clock.now().wall,
            facts=records_of(own),
            symptoms=records_of(later),
            rx_bytes=seen.rx_bytes,
            tx_bytes=seen.tx_bytes,
        )
        self._driver.send(Report(journal_id=self._instance, first_seq=1, items=[ended]))
        await asyncio.wait(
            [self._reported, self._running],
            timeout=REPORT_TIMEOUT_S,
            return_when=asyncio.FIRST_COMPLETED,
        )
        return self._reported.done()

    async def leave(self) -> None:
        """Say goodbye and wait until it is acknowledged, or for as long as a link lingers."""
        self._driver.leave("client.closed")
        await asyncio.wait([self._running])
        if not self._granted.done():
            self._granted.cancel()

    async def _run(self) -> None:
        try:
            cell = await self._driver.run()
        except asyncio.CancelledError:
            self._granted.cancel()
            raise
        if not self._granted.done():
            self._granted.set_exception(Failure(self._why(cell)))
            self._granted.exception()  # it may be that nobody waits for it any more

    def _why(self, cell: CloseCell) -> str:
        if self._goodbye is not None and self._goodbye.detail:
            return self._goodbye.detail
        return explain(classify(ConnectType.CLIENT_TO_SERVER, cell.facts).disconnect).sentence

    def _deliver(self, message: Message) -> None:
        match message:
            case Welcome(protocol=(major, _)) if major != PROTOCOL[0]:
                raise Garbage(f"protocol {major}; this version speaks {PROTOCOL[0]}")
            case Welcome(ping_every_s=every, patience_s=patience):
                self._driver.link.set_liveness(
                    ping_every=every, patience=patience, now=self._clock.now()
                )
            case TunnelGrant():
                if not self._granted.done():
                    self._granted.set_result(message)
            case TunnelDenied(message=text):
                if not self._granted.done():
                    self._granted.set_exception(Failure(text))
            case ReportAck():
                if not self._reported.done():
                    self._reported.set_result(None)
            case Goodbye():
                self._goodbye = message
            case _:
                pass
