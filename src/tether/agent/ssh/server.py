"""The agent's SSH server: every tunnel that is served, and everything that they started.

Law: this package's door to the rest of the agent. Nothing outside it and its session modules sees a
type of asyncssh but the host key. `serve` answers with a `ConnectionEnd` whatever happens, and writes
the one log line of each end.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

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
from tether.agent.tunnels.service import ConnectionEnd as ConnectionEnd, end_of
from tether.attribution import evidence as ev
from tether.attribution.classify import classify
from tether.attribution.disconnect import Disconnect
from tether.attribution.evidence import Evidence
from tether.attribution.explain import explain
from tether.attribution.vocabulary import ConnectType, Party, Vantage
from tether.log import get_logger
from tether.net.clock import Clock
from tether.net.link.host_context import HostContext, NoSurroundings
from tether.net.tasks import Tasks
from tether.net.tunnel.stream import TunnelStream
from tether.protocol.messages.reports import ForwardRecord, ForwardRollup, ReportItem
from tether.protocol.messages.tunnel import TunnelOffer
from tether.protocol.timestamp import Timestamp

_A2C = ConnectType.AGENT_TO_CLIENT

TERMINALS_S = 1.0
"""How long the programs of terminals may take to go after they were hung up."""


class SshServer:
    """See the module's law. Make it in a running loop; call `close` last."""

    def __init__(
        self,
        settings: SshSettings,
        *,
        clock: Clock,
        on_item: Callable[[ReportItem], None] = lambda item: None,
        metrics: AgentMetrics | None = None,
        killed_for_memory: Callable[[int | None], bool] = lambda pid: False,
        surroundings: HostContext | None = None,
    ) -> None:
        """`on_item` is given what is to be reported: each session's and each IDE's start and end,
        forwarded connections, file operations. Those of a connection come before its `serve`
        returns, an IDE's end at the latest in `finish`."""
        self.settings = settings
        self.metrics = metrics or AgentMetrics()
        self._clock, self._on_item = clock, on_item
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
            surroundings=surroundings or NoSurroundings(),
        )
        self._tasks = Tasks("ssh-server")
        self._connections: dict[str, AgentConnection] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._closing = False
        self._log = get_logger("ssh")
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
    def live(self) -> Mapping[str, TunnelOffer]:
        """The connections being served now, by connection id."""
        return {key: connection.offer for key, connection in self._connections.items()}

    async def serve(self, stream: TunnelStream, offer: TunnelOffer) -> ConnectionEnd:
        """Run one tunnel and its SSH connection to their end.

        Raises nothing but CancelledError; cancelled, it still cleans up. Offer a cause with `end`
        before you cancel: a cancellation without one counts as a failure of the agent.
        """
        connected_at = self._clock.now()
        connection = self._connection(stream, offer)
        self._connections[offer.connection_id] = connection
        self._idle.clear()
        self._tasks.spawn(self._inspector.warm(), "warm")
        try:
            if self._closing:
                connection.tunnel.driver.leave("agent.shutdown", detail="the agent is stopping")
            await connection.run()
        except Exception as wrong:
            connection.failed(wrong)
        finally:
            del self._connections[offer.connection_id]
            if not self._connections:
                self._idle.set()
            end = self._ended(connection, connected_at)
        return end

    def end(
        self,
        connection_ids: Iterable[str] | None,
        *,
        fact: Evidence,
        cause: str,
        actor: str = "",
        detail: str = "",
        announcement: str = "",
    ) -> None:
        """End these connections, or all of them.

        The fact goes into each cell first; then terminals are shown `announcement`, ssh is told in a
        disconnect message, and the tunnel says goodbye. Each `serve` returns soon after.

        Args:
            connection_ids: which; None for all, unknown ones are ignored.
            fact: what ends them.
            cause: the catalogue code to declare.
            actor: who is behind it.
            detail: one line for people.
            announcement: one line for terminals; "" takes the cause's own sentence.
        """
        said = ev.GoodbyeSaid(
            vantage=Vantage.AGENT,
            at=self._clock.now().wall,
            by=Party.AGENT,
            cause=cause,
            actor=actor,
            detail=detail,
        )
        sentence = explain(classify(_A2C, (said,)).disconnect, self.settings.workspace).sentence
        wanted = self._connections if connection_ids is None else set(connection_ids)
        for connection_id, connection in list(self._connections.items()):
            if connection_id in wanted:
                connection.end(
                    fact,
                    cause=cause,
                    actor=actor,
                    detail=detail,
                    announcement=announcement or f"tether: {sentence}",
                )

    def abandon(self, fact: Evidence) -> None:
        """Everything ends because of `fact`: viewers of terminals that would outlive them are told,
        before their connections `end`."""
        self._terminals.abandon(fact)

    async def close(self, timeout: float) -> None:
        """Take no more tunnels, wait for every `serve` to return, then hang up what is left.

        Call `end(None, …)` first. Processes that sessions left running get SIGHUP, and SIGKILL if
        they stay.
        """
        self._closing = True
        try:
            await asyncio.wait_for(self._idle.wait(), timeout)
        except TimeoutError:
            self._log.warning("ssh connections did not end in time", left=len(self._connections))
        await self.finish()
        await self.hang_up()

    async def finish(self) -> None:
        """Nothing more will be served: what is still being watched ends with what is known."""
        await self._tasks.cancel()
        await self._shared.ide.close()
        self._inspector.close()
        await self._shared.displays.close()  # last: it may wait for who holds the cookies

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
        return AgentConnection(
            stream,
            offer,
            settings=settings,
            account=settings.account or current_account(os.environ),
            options=self._options,
            shared=self._shared,
        )

    def _report(self, item: ReportItem) -> None:
        if isinstance(item, ForwardRecord | ForwardRollup):
            self.metrics.forwarded(item)
        self._on_item(item)

    def _methods(self) -> Mapping[str, int]:
        return Counter(str(c.tunnel.stream.method) for c in self._connections.values())

    def _ide_ended(self, end: Disconnect) -> None:
        self.metrics.disconnected(Layer.IDE, end)

    def _ended(self, connection: AgentConnection, connected_at: Timestamp) -> ConnectionEnd:
        cell, now = connection.cell, self._clock.now()
        end = end_of(
            self._log,
            "ssh connection closed",
            connection.tunnel,
            connection.offer,
            connected_at,
            now,
        )
        self.metrics.disconnected(Layer.CONNECTION, classify(_A2C, cell.facts).disconnect)
        if not any(isinstance(fact, ev.Authenticated) for fact in cell.facts):
            self.metrics.connection_failed()
        return end
