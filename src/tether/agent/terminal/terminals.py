"""Every reconnecting terminal of an agent: made or found by its id, listed, renamed, ended, limited.

Law: a terminal is found by its id until its program has ended; then the id is free. A request that
cannot be carried out is refused with one sentence for the user, and a code that names a cause.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Callable, Mapping
from typing import Protocol

from tether.agent.process.process import ExitStatus
from tether.agent.screen.client import Screens
from tether.agent.terminal.pty import (
    ProgramTerminal,
    PtySettings,
    ReconnectingPty,
    TerminalClient,
    TerminalState,
)
from tether.agent.terminal.viewers import SizePolicy
from tether.attribution.causes.codes import SESSION_KILLED
from tether.attribution.disconnect import Disconnect
from tether.attribution.evidence import Evidence
from tether.net.clock import Clock
from tether.protocol.terminal.attach import agent_goodbye
from tether.protocol.terminal.messages import Info, Init
from tether.text import printable

MAX_HISTORY = 10_000
MAX_NAME = 100
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class TerminalError(Exception):
    """A request that is not carried out. Its text is one sentence for people; `code` for programs."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Starter(Protocol):
    """Starts a command ("" is the login shell) on a terminal of its own."""

    def __call__(
        self,
        command: str,
        *,
        size: tuple[int, int],
        connection: Mapping[str, str],
        on_exit: Callable[[ExitStatus], None],
    ) -> ProgramTerminal:
        """`connection` is added to its environment. Raises OSError: it could not be started."""


class Terminals:
    """The terminals of one start of the workspace."""

    def __init__(
        self,
        *,
        start: Starter,
        screens: Screens,
        clock: Clock,
        settings: PtySettings | None = None,
        on_over: Callable[[ReconnectingPty], None] = lambda pty: None,
        on_detach: Callable[[Disconnect], None] = lambda end: None,
    ) -> None:
        """`on_over` is told of each terminal that has ended; its cell says why. `on_detach` is told
        how each attach ended."""
        self.detached = on_detach
        self.settings = settings or PtySettings()
        self._start = start
        self._screens = screens
        self._clock = clock
        self._on_over = on_over
        self._live: dict[str, ReconnectingPty] = {}  # by id, the oldest first
        self._leaving: Evidence | None = None  # why the agent leaves, once it does
        self._none_live = asyncio.Event()
        self._none_live.set()

    def __len__(self) -> int:
        return len(self._live)

    @property
    def leaving(self) -> Evidence | None:
        """Why no more terminals are made: what the agent leaves for. None while it stays."""
        return self._leaving

    def attach(self, client: TerminalClient, init: Init) -> tuple[ReconnectingPty, bool]:
        """The terminal that `init` asks for, with `client` looking on, and whether it is new.

        Raises:
            TerminalError: it cannot be had.
        """
        if self._leaving is not None:
            raise TerminalError("agent_leaving", "the agent of this workspace is shutting down")
        found = self._live.get(init.id) if init.id else None
        if found is None or found.state is TerminalState.OVER:
            pty, created = self._make(init, client.environment), True
        else:
            pty, created = found, False
            if pty.viewers >= self.settings.max_viewers:
                raise TerminalError(
                    "too_many_viewers",
                    f"the terminal {pty.name} already has {self.settings.max_viewers} viewers",
                )
        history = min(max(init.history, 0), MAX_HISTORY)
        pty.attach(client, rows=init.rows, cols=init.cols, history=history)
        return pty, created

    def listing(self) -> list[Info]:
        """Every terminal, the oldest first."""
        return [pty.info() for pty in self._live.values()]

    def rename(self, pty_id: str, name: str) -> None:
        """Call a terminal by another name.

        Raises:
            TerminalError: there is no such terminal, or the name is none.
        """
        self._find(pty_id).name = _name(name)

    def kill(self, pty_id: str, user: str) -> None:
        """End a terminal because `user` asked for it.

        Raises:
            TerminalError: there is no such terminal.
        """
        actor = f"user:{user}" if user else ""
        self._find(pty_id).end(agent_goodbye(SESSION_KILLED, self._clock.now(), actor=actor))

    def abandon(self, fact: Evidence) -> None:
        """The agent leaves because of `fact`: every viewer is told at once, every program hung up."""
        self._leaving = fact
        for pty in list(self._live.values()):
            pty.abandon(fact)

    async def close(self, timeout: float) -> None:
        """Wait for every program to end, at most `timeout` seconds; call `abandon` first."""
        try:
            await asyncio.wait_for(self._none_live.wait(), timeout)
        except TimeoutError:
            pass
        self._screens.close()

    def _make(self, init: Init, connection: Mapping[str, str]) -> ReconnectingPty:
        if len(self._live) >= self.settings.max_terminals:
            raise TerminalError(
                "too_many_terminals",
                f"this workspace already has {self.settings.max_terminals} terminals",
            )
        if init.id and not _ID.fullmatch(init.id):
            raise TerminalError(
                "bad_id", "a terminal's id is up to 64 letters, digits, '_', '.' and '-'"
            )
        if "\0" in init.command:
            raise TerminalError("bad_command", "a command cannot have a NUL character")
        size = (init.rows, init.cols)
        pty_id = init.id or uuid.uuid4().hex
        try:
            pty = ReconnectingPty(
                pty_id=pty_id,
                name=_name(init.name or init.command[:MAX_NAME].strip() or "shell"),
                command=init.command,
                size=size,
                policy=SizePolicy.read(init.size_policy),
                start=lambda told: self._start(
                    init.command, size=size, connection=connection, on_exit=told
                ),
                screens=self._screens,
                clock=self._clock,
                idle_s=self.settings.idle_s,
                on_over=self._over,
            )
        except OSError as wrong:
            raise TerminalError(
                "not_started", f"the terminal could not be started: {wrong}"
            ) from wrong
        self._live[pty_id] = pty
        self._none_live.clear()
        return pty

    def _find(self, pty_id: str) -> ReconnectingPty:
        pty = self._live.get(pty_id)
        if pty is None:
            raise TerminalError("not_found", f"this workspace has no terminal {pty_id[:64]!r}")
        return pty

    def _over(self, pty: ReconnectingPty) -> None:
        if self._live.get(pty.id) is pty:
            del self._live[pty.id]
        if not self._live:
            self._none_live.set()
        self._on_over(pty)


def _name(words: str) -> str:
    name = printable(words, "").strip()[:MAX_NAME]
    if not name:
        raise TerminalError("bad_name", "a terminal's name needs at least one letter")
    return name
