"""The agent's SSH server: every tunnel that is served, and everything that they started.

Law: this module is what the rest of the agent knows of SSH. Nothing outside this package and
`forwarding` sees a type of asyncssh but the host key. `serve` returns a `ConnectionEnd` whatever
happens, and writes the one log line of each end.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from tether.agent.forwarding.listeners import Listeners
from tether.agent.ide.port_inspection import PortInspector
from tether.agent.ide.watcher import IdeWatcher
from tether.agent.metrics import AgentMetrics, Layer
from tether.agent.process.environment import current_account
from tether.agent.process.process import Processes
from tether.agent.ssh.asyncssh_connection import server_options
from tether.agent.ssh.connection import AgentConnection
from tether.agent.ssh.settings import SharedParts, SshSettings as SshSettings
from tether.agent.ssh.x11 import Displays
from tether.agent.terminal.service import TerminalService
from tether.agent.terminal.terminals import Terminals
from tether.agent.tunnels.service import ConnectionEnd, EndOrder, TunnelService
from tether.attribution import evidence as ev
from tether.attribution.causes.codes import AGENT_SHUTDOWN
from tether.attribution.disconnect import Disconnect
from tether.attribution.evidence import Evidence
from tether.log import get_logger
from tether.net.clock import Clock
from tether.net.link.host_context import HostContext, NoHostContext
from tether.net.tasks import Tasks
from tether.net.tunnel.stream import TunnelStream
from tether.protocol.messages.reports import ForwardRecord, ForwardRollup, ReportItem
from tether.protocol.messages.tunnel import TunnelOffer

TERMINALS_S = 1.0
"""How long the programs of terminals may take to end after they were hung up."""


class SshServer:
    """The SSH server of one agent. Construct it in a running loop; call `close` last."""

    def __init__(
        self,
        settings: SshSettings,
        *,
        clock: Clock,
        on_item: Callable[[ReportItem], None] = lambda item: None,
        metrics: AgentMetrics | None = None,
        killed_for_memory: Callable[[int | None], bool] = lambda pid: False,
        host_context: HostContext | None = None,
    ) -> None:
        """`on_item` is given what is to be reported: the start and the end of each session and each
        IDE, forwarded connections, file operations. The items of a connection come before its
        `serve` returns, and the end of an IDE in `finish` at the latest."""
        self.settings = settings
        self.metrics = metrics or AgentMetrics()
        self._clock = clock
        self._on_item = on_item
        self._options = server_options(settings.host_key)
        self._processes = Processes(killed_for_memory)
        self._terminals = TerminalService(
            self._processes,
            settings=lambda: self.settings.for_terminals(),
            clock=clock,
            metrics=self.metrics,
        )
        self._inspector = PortInspector(clock=clock)
        self._shared = SharedParts(
            clock=clock,
            processes=self._processes,
            metrics=self.metrics,
            displays=Displays(settings.displays, clock=clock, on_error=self.metrics.x11_failed),
            ide=IdeWatcher(
                self._inspector, clock=clock, on_record=self._report, on_end=self._ide_ended
            ),
            on_item=self._report,
            terminals=self._terminals,
            listeners=Listeners(),
            host_context=host_context or NoHostContext(),
        )
        self._tasks = Tasks("ssh-server")
        self._log = get_logger("ssh")
        self._service = TunnelService(
            self._connection,
            clock=clock,
            log=self._log,
            event="ssh connection closed",
            on_end=self._ended,
        )
        self._idle = asyncio.Event()
        self._idle.set()
        self._closing = False
        self.metrics.watch(
            connections=self._methods,
            ides=lambda: len(self._shared.ide.sessions),
            terminals=lambda: len(self._terminals.current),
        )

    @property
    def terminals(self) -> Terminals:
        """The reconnecting terminals that take attaches now."""
        return self._terminals.current

    @property
    def live(self) -> Mapping[str, AgentConnection]:
        """The connections being served now, by connection id."""
        return self._service.live

    async def serve(self, stream: TunnelStream, offer: TunnelOffer) -> ConnectionEnd:
        """Run one tunnel and its SSH connection to their end.

        Raises nothing but CancelledError; cancelled, it still cleans up. Offer a cause with `end`
        before you cancel: a cancellation without one counts as a failure of the agent.
        """
        self._idle.clear()
        self._tasks.spawn(self._inspector.warm(), "warm")
        return await self._service.serve(stream, offer)

    def end(self, connection_ids: Iterable[str] | None, order: EndOrder) -> None:
        """End these connections (None: all; unknown ones are ignored).

        The fact goes into each cell first. Then terminals are shown the announcement, ssh is told in a
        disconnect message, and the tunnel says goodbye. Each `serve` returns soon after.
        """
        self._service.end(connection_ids, order)

    def abandon(self, fact: Evidence) -> None:
        """Everything ends because of `fact`, reconnecting terminals too: their viewers are told, before
        you `end` their connections."""
        self._processes.remember()
        self._terminals.abandon(fact)

    async def close(self, timeout: float) -> None:
        """Take no more tunnels, wait for every `serve` to return, then hang up what is left.

        Call `end(None, …)` first. Processes that sessions left running get SIGHUP, and SIGKILL if
        they stay.

        Args:
            timeout: seconds to wait for the `serve`s.
        """
        self._closing = True
        try:
            await asyncio.wait_for(self._idle.wait(), timeout)
        except TimeoutError:
            self._log.warning("ssh connections did not end in time", left=len(self._service.live))
        await self.finish()
        await self.hang_up()

    async def finish(self) -> None:
        """Nothing more will be served: IDE sessions that are still open end with what is known."""
        await self._tasks.cancel()
        await self._shared.ide.close()
        self._inspector.close()
        await self._shared.displays.close()  # last: it may wait for the cookies' lock

    async def hang_up(self) -> None:
        """End the processes that sessions left running: a workspace that is stopped has none."""
        try:
            await self._terminals.close(TERMINALS_S)
        except asyncio.CancelledError:
            await self._processes.end_all(0.0)
            raise
        await self._processes.end_all()

    def _connection(self, stream: TunnelStream, offer: TunnelOffer) -> AgentConnection:
        settings = self.settings
        connection = AgentConnection(
            stream,
            offer,
            settings=settings,
            account=settings.account or current_account(os.environ),
            options=self._options,
            shared=self._shared,
        )
        if self._closing:
            connection.tunnel.leave(AGENT_SHUTDOWN, detail="the agent is stopping")
        return connection

    def _report(self, item: ReportItem) -> None:
        if isinstance(item, ForwardRecord | ForwardRollup):
            self.metrics.forwarded(item)
        self._on_item(item)

    def _methods(self) -> Mapping[str, int]:
        return Counter(str(c.tunnel.stream.method) for c in self._service.live.values())

    def _ide_ended(self, end: Disconnect) -> None:
        self.metrics.disconnected(Layer.IDE, end)

    def _ended(self, connection: AgentConnection, end: ConnectionEnd) -> None:
        if not self._service.live:
            self._idle.set()
        self.metrics.disconnected(Layer.CONNECTION, end.disconnect)
        if not any(isinstance(fact, ev.Authenticated) for fact in end.cell.facts):
            self.metrics.connection_failed()
