"""A terminal in a browser: an attach over a tunnel of its own, sealed end to end.

Law: the carrier that `terminal_attach` runs over, where there is no SSH. The relay and the server see
ciphertext; what the browser is told, it is told inside. The attach's end is the tunnel's: its cause is
offered before anything is closed, and a tunnel that ends first takes the attach along.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from tether.agent.terminal.attach import AttachEnd, TerminalAttach
from tether.agent.terminal.terminals import Terminals
from tether.attribution.classify import classify
from tether.attribution.disconnect import CloseCell
from tether.attribution.vocabulary import ConnectType, Party
from tether.net.clock import Clock
from tether.net.e2e_channel import AgentChannel
from tether.net.link.driver import HIGH_WATER
from tether.net.tasks import Tasks
from tether.net.tunnel.endpoint import TunnelEndpoint
from tether.net.tunnel.stream import TunnelStream
from tether.protocol.messages.base import Message
from tether.protocol.messages.tunnel import TunnelOffer
from tether.version import VERSION


class SealedTerminal:
    """One such tunnel. Call `run` once; `attach_end` then says how the attach ended."""

    def __init__(
        self,
        stream: TunnelStream,
        channel: AgentChannel,
        terminals: Terminals,
        *,
        offer: TunnelOffer,
        workspace: str,
        attach_id: str,
        clock: Clock,
    ) -> None:
        self._channel, self._clock = channel, clock
        self._tasks = Tasks(f"terminal-{offer.connection_id[:8]}")
        self._waiting = False
        self._taking = asyncio.Event()
        self._taking.set()
        self.attach_end: AttachEnd | None = None
        self.tunnel = TunnelEndpoint(
            stream,
            me=Party.AGENT,
            peer=Party.CLIENT,
            clock=clock,
            version=VERSION,
            on_data=self._received,
            on_half_close=self._half_closed,
            on_message=self._heard,
        )
        self._attach = TerminalAttach(
            self,
            terminals,
            user=offer.user,
            clock=clock,
            workspace=workspace,
            attach_id=attach_id,
            on_end=self._attach_ended,
        )

    @property
    def cell(self) -> CloseCell:
        """What is known about the end."""
        return self.tunnel.cell

    async def run(self) -> CloseCell:
        """Serve until the tunnel is over."""
        try:
            return await self.tunnel.run()
        finally:
            await self._tasks.cancel()
            if self.cell.ended:
                self._attach.lost(*self.cell.facts)

    # -- what the tunnel says ----------------------------------------------------------------

    def _received(self, data: memoryview) -> Awaitable[None] | None:
        plain, reply = self._channel.receive(data)  # Garbage: the driver knows what to do
        if reply:
            self.tunnel.write(reply)
        if plain and self.attach_end is None:
            self._attach.data_received(plain)
        return None if self._taking.is_set() else self._until_taking()

    async def _until_taking(self) -> None:
        await self._taking.wait()

    def _half_closed(self) -> None:
        self._attach.closed_by_client()

    def _heard(self, message: Message) -> None:
        pass  # a goodbye ends the tunnel, and `run` tells the attach; nothing else is for us

    # -- what the attach asks for: see `terminal_attach.Carrier` --------------------------------

    def write(self, data: bytes) -> None:
        if not self._channel.open:
            return  # nothing is said before the other end has proved who it is
        self.tunnel.write(self._channel.seal(data))
        if self.tunnel.driver.queued > HIGH_WATER and not self._waiting:
            self._waiting = True
            self._attach.pause_writing()
            self._tasks.spawn(self._resume(), "room")

    def close(self, exit_code: int) -> None:
        self._taking.set()  # the code is in what `attach_ended` says

    def pause_reading(self) -> None:
        self._taking.clear()

    def resume_reading(self) -> None:
        self._taking.set()

    async def _resume(self) -> None:
        await self.tunnel.drain()
        self._waiting = False
        self._attach.resume_writing()

    def _attach_ended(self, end: AttachEnd) -> None:
        self.attach_end = end
        if self.cell.ended:
            return
        for fact in end.cell.facts[:-1]:
            self.cell.note(fact)
        verdict = classify(ConnectType.AGENT_TO_CLIENT, end.cell.facts).disconnect
        self.tunnel.driver.leave_because(
            end.cell.facts[-1], cause=verdict.cause, actor=verdict.actor, detail=verdict.detail
        )
