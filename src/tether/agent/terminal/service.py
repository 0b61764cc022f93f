"""The reconnecting terminals of one agent, through every stop and start of its workspace.

Law: there is always one `Terminals` that takes attaches. Whoever stops the workspace or the agent calls
`abandon` with the cause first, then ends the connections, then calls `close`. The end of each terminal
is one log line of its own, with its cause: nobody may be connected to it when it ends. The program of a
terminal is one of the agent's own processes.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tether.agent.metrics import AgentMetrics, Layer
from tether.agent.process.environment import Account, session_environment
from tether.agent.process.process import ExitStatus, Process, Processes
from tether.agent.process.pty import Terminal
from tether.agent.screen.client import Screens
from tether.agent.terminal.pty import ProgramTerminal, PtySettings, ReconnectingPty
from tether.agent.terminal.terminals import Terminals
from tether.attribution import evidence as ev
from tether.attribution.classify import classify
from tether.attribution.disconnect import Disconnect
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import ConnectType, Vantage
from tether.log import disconnected, get_logger
from tether.net.clock import Clock

_log = get_logger("agent.terminals")


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalSettings:
    """What a new terminal starts with."""

    account: Account
    """Who its program runs as."""
    directory: str
    """Where its program starts."""
    env: Mapping[str, str] = field(default_factory=dict)
    """What the workspace sets for every program."""
    workspace: str = ""
    workspace_id: str = ""
    limits: PtySettings = field(default_factory=PtySettings)
    """These are read once for each start of the workspace, not for each terminal."""


class TerminalService:
    """Makes terminals and ends them. Construct it in a running loop."""

    def __init__(
        self,
        processes: Processes,
        *,
        settings: Callable[[], TerminalSettings],
        clock: Clock,
        metrics: AgentMetrics,
    ) -> None:
        """`settings` is asked for each terminal, because the server's Welcome changes them."""
        self._processes = processes
        self._settings = settings
        self._clock = clock
        self._metrics = metrics
        self._leaving: list[Terminals] = []  # abandoned, and not yet closed
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
            settings=self._settings().limits,
            on_over=self._over,
            on_detach=self._detached,
        )

    def _start(
        self,
        command: str,
        *,
        size: tuple[int, int],
        connection: Mapping[str, str],
        on_exit: Callable[[ExitStatus], None],
    ) -> ProgramTerminal:
        return start_program(
            self._processes,
            self._settings(),
            command,
            size=size,
            connection=connection,
            on_exit=on_exit,
        )

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
        end = classify(ConnectType.AGENT_TO_CLIENT, facts).disconnect
        self._metrics.disconnected(Layer.TERMINAL, end)
        disconnected(
            _log,
            "terminal closed",
            end,
            terminal_id=terminal.id,
            duration_s=round(now.mono - terminal.created.mono, 3),
        )


class ProcessOnTerminal:
    """A `ProgramTerminal`: one of the agent's processes on a pseudo-terminal."""

    def __init__(self, terminal: Terminal, process: Process) -> None:
        self._terminal = terminal
        self._process = process
        self.read_fd, self.write_fd = terminal.taken_over()

    def resize(self, rows: int, cols: int) -> None:
        self._terminal.resize(cols, rows, 0, 0)

    def signal(self, number: int) -> None:
        self._process.signal(number)

    def close(self) -> None:
        os.close(self.read_fd)
        os.close(self.write_fd)
        self._terminal.close()


def start_program(
    processes: Processes,
    settings: TerminalSettings,
    command: str,
    *,
    size: tuple[int, int],
    connection: Mapping[str, str],
    on_exit: Callable[[ExitStatus], None],
) -> ProgramTerminal:
    """Start `command`, or the login shell for "", on a terminal of its own.

    Args:
        processes: who owns the process.
        settings: the account, the directory and the environment.
        command: for the account's shell.
        size: rows and columns.
        connection: what the program may know of the connection that opens the terminal, which it
            outlives.
        on_exit: called once, when the process has been reaped.

    Raises:
        OSError: it could not be started.
    """
    rows, cols = size
    account = settings.account
    terminal = Terminal((cols, rows, 0, 0), {})
    environment = session_environment(
        account,
        settings=settings.env,
        client={},
        connection={
            "TETHER_WORKSPACE": settings.workspace,
            "TETHER_WORKSPACE_ID": settings.workspace_id,
            **connection,
            "SSH_TTY": terminal.path,
        },
    )
    try:
        process = processes.spawn_on_terminal(
            [account.shell, "-c", command] if command else [account.shell, "-l"],
            terminal.path,
            env=with_terminal(environment),
            directory=settings.directory,
            on_exit=on_exit,
        )
        return ProcessOnTerminal(terminal, process)
    except BaseException:
        terminal.close()
        raise


def with_terminal(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` for a terminal that the screen host emulates: xterm with UTF-8.

    The user's choice of a character set is respected where it is UTF-8, or was forced by LC_ALL.
    """
    found = {**environment, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    if found.get("LC_ALL"):
        return found
    deciding = found.get("LC_CTYPE") or found.get("LANG") or ""
    if not re.search(r"utf-?8", deciding, re.IGNORECASE):
        found["LC_CTYPE"] = "C.UTF-8"
    return found
