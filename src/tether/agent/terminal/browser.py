"""Terminals in browsers: an attach over a tunnel of its own, encrypted end to end.

Law: the transport that `terminal.attach` runs over where there is no SSH. The relay and the server see
ciphertext; what the browser is told, it is told inside. The attach's end is the tunnel's: its cause is
offered before anything is closed, and a tunnel that ends first takes the attach along. In the record an
attach is a session of the connection, of the type `reconnecting_pty`, told at its start and at its end.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tether.agent.process.environment import connection_environment
from tether.agent.terminal.attach import AttachEnd, TerminalAttach
from tether.agent.terminal.terminals import Terminals
from tether.agent.tunnels.service import ServedTunnel, TunnelService
from tether.attribution.vocabulary import ConnectionType, Party
from tether.log import get_logger
from tether.net.clock import Clock
from tether.net.e2e_channel import AgentChannel, read_public_line
from tether.net.link.driver import HIGH_WATER
from tether.net.tasks import Tasks
from tether.net.tunnel.endpoint import TunnelEndpoint
from tether.net.tunnel.stream import TunnelStream
from tether.protocol.messages.base import Message
from tether.protocol.messages.reports import ReportItem, SessionRecord
from tether.protocol.messages.tunnel import TunnelOffer
from tether.version import VERSION

_log = get_logger("terminal")


def browser_terminals(
    *,
    terminals: Callable[[], Terminals],
    host_key: Ed25519PrivateKey,
    workspace: Callable[[], str],
    clock: Clock,
    on_item: Callable[[ReportItem], object],
) -> TunnelService[BrowserTerminal]:
    """Serves the tunnels of the purpose `terminal`.

    Args:
        terminals: those that take attaches now.
        host_key: proves to the browser that it talks to this agent.
        workspace: the workspace's name, for sentences.
        clock: where time comes from.
        on_item: is given what is to be reported.
    """

    def make(stream: TunnelStream, offer: TunnelOffer) -> BrowserTerminal:
        key = read_public_line(offer.public_key)
        return BrowserTerminal(
            stream,
            AgentChannel(offer.connection_id, key, host_key),
            terminals(),
            offer=offer,
            workspace=workspace(),
            clock=clock,
            on_item=on_item,
        )

    return TunnelService(make, clock=clock, log=_log, event="terminal tunnel closed")


class BrowserTerminal(ServedTunnel):
    """One such tunnel."""

    def __init__(
        self,
        stream: TunnelStream,
        channel: AgentChannel,
        terminals: Terminals,
        *,
        offer: TunnelOffer,
        workspace: str,
        clock: Clock,
        on_item: Callable[[ReportItem], object],
    ) -> None:
        self._channel = channel
        self._clock = clock
        self._on_item = on_item
        self._tasks = Tasks(f"terminal-{offer.connection_id[:8]}")
        self._session = SessionRecord(
            connection_id=offer.connection_id,
            session_id=uuid.uuid4().hex,
            session_type=ConnectionType.RECONNECTING_PTY,
            started_at=clock.now().wall,
            pty=True,
        )
        self._waiting = False  # for room in the tunnel; the attach was told to pause
        self._taking = asyncio.Event()  # the terminal takes what is typed
        self._taking.set()
        self._attach_end: AttachEnd | None = None
        self.tunnel = TunnelEndpoint(
            stream,
            me=Party.AGENT,
            peer=Party.CLIENT,
            clock=clock,
            version=VERSION,
            on_data=self._received,
            on_message=self._heard,
        )
        self._attach = TerminalAttach(
            self,
            terminals,
            user=offer.user,
            environment=connection_environment(
                connection_id=offer.connection_id,
                user=offer.user,
                client=(offer.client_ip, offer.client_port),
            ),
            clock=clock,
            workspace=workspace,
            attach_id=self._session.session_id,
            on_end=self._attach_ended,
        )

    async def run(self) -> None:
        """Serve until the tunnel is over."""
        self._on_item(self._session)
        try:
            await self.tunnel.run()
        finally:
            await self._tasks.cancel()
            if self.cell.ended:
                self._attach.lost(*self.cell.facts)
            self._on_item(self._ended_session())

    def _ended_session(self) -> SessionRecord:
        status = None if self._attach_end is None else self._attach_end.status
        return msgspec.structs.replace(
            self._session,
            ended_at=self._clock.now().wall,
            exit_code=None if status is None else status.code,
            exit_signal=None if status is None else status.signal,
        )

    # -- what the tunnel says ----------------------------------------------------------------

    def _received(self, data: memoryview) -> Awaitable[None] | None:
        plain, reply = self._channel.receive(data)  # Garbage: the driver knows what to do
        if reply:
            self.tunnel.write(reply)
        if plain and self._attach_end is None:
            self._attach.data_received(plain)
        return None if self._taking.is_set() else self._until_taking()

    async def _until_taking(self) -> None:
        await self._taking.wait()

    def _heard(self, message: Message) -> None:
        pass  # a goodbye ends the tunnel, and `run` tells the attach; nothing else is for us

    # -- what the attach asks for: see `attach.AttachTransport` -------------------------------

    def write(self, data: bytes) -> None:
        if not self._channel.open:
            return  # nothing is said before the other end has proved who it is
        self.tunnel.write(self._channel.seal(data))
        if self.tunnel.queued > HIGH_WATER and not self._waiting:
            self._waiting = True
            self._attach.pause_writing()
            self._tasks.spawn(self._resume(), "room")

    def close(self, exit_code: int) -> None:
        self._taking.set()  # the exit code is in the session's record

    def pause_reading(self) -> None:
        self._taking.clear()

    def resume_reading(self) -> None:
        self._taking.set()

    async def _resume(self) -> None:
        await self.tunnel.drain()
        self._waiting = False
        self._attach.resume_writing()

    def _attach_ended(self, end: AttachEnd) -> None:
        self._attach_end = end
        if self.cell.ended:
            return
        for fact in end.cell.facts[:-1]:
            self.cell.note(fact)
        why = end.disconnect
        self.tunnel.leave(why.cause, because=end.cell.facts[-1], actor=why.actor, detail=why.detail)
