"""The reconnecting terminals of one agent, through every stop and start of its workspace.

Law: there is always one `Terminals` that takes attaches. Whoever stops the workspace or the agent calls
`abandon` with the cause first, then ends the connections, then `close`s. The end of each terminal is
one log line of its own, with its cause: nobody may be connected to it when it ends.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from tether.agent.metrics import AgentMetrics, Layer
from tether.agent.process.environment import current_account, session_environment
from tether.agent.process.process import ExitStatus, Processes
from tether.agent.screen.client import Screens
from tether.agent.ssh.settings import SshSettings
from tether.agent.terminal.pty import ProgramTerminal, ReconnectingPty
from tether.agent.terminal.start import start_with
from tether.agent.terminal.terminals import Terminals
from tether.attribution import evidence as ev
from tether.attribution.classify import classify
from tether.attribution.disconnect import Disconnect
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import ConnectType, Vantage
from tether.log import disconnected, get_logger
from tether.net.clock import Clock

_log = get_logger("agent.terminals")


class TerminalService:
    """See the module's law. Make it in a running loop."""

    def __init__(
        self,
        processes: Processes,
        *,
        settings: Callable[[], SshSettings],
        clock: Clock,
        metrics: AgentMetrics,
    ) -> None:
        """`settings` are asked for with each terminal: a Welcome changes them."""
        self._processes, self._settings, self._clock = processes, settings, clock
        self._metrics = metrics
        self._leaving: list[Terminals] = []
        self.current = self._terminals()

    def abandon(self, fact: Evidence) -> None:
        """The workspace or the agent stops because of `fact`: every viewer is told, every program
        hung up. Terminals that are asked for from now on are new ones."""
        leaving, self.current = self.current, self._terminals()
        self._leaving.append(leaving)
        leaving.abandon(fact)

    async def close(self, timeout: float) -> None:
        """Wait for the programs that `abandon` has hung up, at most `timeout` seconds."""
        leaving, self._leaving = self._leaving, []
        await asyncio.gather(*(terminals.close(timeout) for terminals in leaving))

    def _terminals(self) -> Terminals:
        return Terminals(
            start=self._start,
            screens=Screens(self._processes),
            clock=self._clock,
            settings=self._settings().terminals,
            on_over=self._over,
            on_detach=self._detached,
        )

    def _start(
        self, command: str, *, size: tuple[int, int], on_exit: Callable[[ExitStatus], None]
    ) -> ProgramTerminal:
        settings = self._settings()
        account = settings.account or current_account(os.environ)
        start = start_with(
            self._processes,
            shell=account.shell,
            directory=settings.directory_of(account),
            environment=lambda: session_environment(
                account,
                settings=settings.env,
                client={},
                connection={
                    "TETHER_WORKSPACE": settings.workspace,
                    "TETHER_WORKSPACE_ID": settings.workspace_id,
                },
            ),
        )
        return start(command, size=size, on_exit=on_exit)

    def _detached(self, end: Disconnect) -> None:
        self._metrics.disconnected(Layer.ATTACH, end)

    def _over(self, terminal: ReconnectingPty) -> None:
        now, status = self._clock.now(), terminal.status
        facts = terminal.cell.facts
        if status is not None:
            ended = ev.SessionEnded(
                vantage=Vantage.AGENT,
                at=now.wall,
                exit_code=status.code,
                exit_signal=status.signal,
                open_sessions=0,
            )
            facts = (ended, *facts)
        judged = classify(ConnectType.AGENT_TO_CLIENT, facts).disconnect
        self._metrics.disconnected(Layer.TERMINAL, judged)
        disconnected(
            _log,
            "terminal closed",
            judged,
            terminal_id=terminal.id,
            duration_s=round(now.mono - terminal.created.mono, 3),
        )
