"""Starts the program of a reconnecting terminal: the agent's own processes on pseudo-terminals.

Law: mechanism only. What is started belongs to `Processes`; the descriptors belong to the terminal.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping

from tether.agent.process.process import ExitStatus, Process, Processes
from tether.agent.process.pty import Terminal
from tether.agent.terminal.pty import ProgramTerminal
from tether.agent.terminal.terminals import Starter


class ProcessOnTerminal:
    """A `ProgramTerminal`: one of the agent's processes on a pseudo-terminal."""

    def __init__(self, terminal: Terminal, process: Process) -> None:
        self._terminal, self._process = terminal, process
        self.read_fd, self.write_fd = terminal.taken_over()

    def resize(self, rows: int, cols: int) -> None:
        self._terminal.resize(cols, rows, 0, 0)

    def signal(self, number: int) -> None:
        self._process.signal(number)

    def close(self) -> None:
        os.close(self.read_fd)
        os.close(self.write_fd)
        self._terminal.close()


def start_with(
    processes: Processes,
    *,
    shell: str,
    directory: str,
    environment: Callable[[], Mapping[str, str]],
) -> Starter:
    """A `Starter` for the agent's own account.

    Args:
        processes: who owns what is started.
        shell: the login shell.
        directory: where programs start.
        environment: of the next program, without TERM.
    """

    def start(
        command: str, *, size: tuple[int, int], on_exit: Callable[[ExitStatus], None]
    ) -> ProgramTerminal:
        rows, cols = size
        terminal = Terminal((cols, rows, 0, 0), {})
        try:
            process = processes.spawn_on_terminal(
                [shell, "-c", command] if command else [shell, "-l"],
                terminal.path,
                env=with_terminal(environment()),
                directory=directory,
                on_exit=on_exit,
            )
            return ProcessOnTerminal(terminal, process)
        except BaseException:
            terminal.close()
            raise

    return start


def with_terminal(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` for a terminal that the screen host emulates: xterm with UTF-8.

    A user's own choice of character set is respected, as long as it is UTF-8 or was forced (LC_ALL).
    """
    found = {**environment, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    if found.get("LC_ALL"):
        return found
    deciding = found.get("LC_CTYPE") or found.get("LANG") or ""
    if not re.search(r"utf-?8", deciding, re.IGNORECASE):
        found["LC_CTYPE"] = "C.UTF-8"
    return found
