"""A whole Tether whose log has two days behind it, and whose workspaces have agents that live.

Law: the past is played (`played_log`), the present is real: a server, a relay, agents and sessions.
"""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.support.e2e.stack import Stack
from tests.support.server.many_rows import fill
from tests.support.server.played_log import SPAN_S, play
from tether.run.server import DATABASE_FILE

LIVE = ("api", "checkout", "mobile")
"""Workspaces of the past whose agents are connected now."""


class PlayedStack(Stack):
    """The stack, what it is asked to run besides, and the sessions that are open on it."""

    def __init__(self, root: Path, *, live: tuple[str, ...] = (), rows: int = 0) -> None:
        data_dir, now = root / "server", time.time()
        if not data_dir.exists():
            data_dir.mkdir(mode=0o700, parents=True)
            if rows:
                fill(data_dir / DATABASE_FILE, rows, now - SPAN_S)
            # in a thread: a browser that is open already has its event loop in this one
            with ThreadPoolExecutor(1) as thread:
                thread.submit(asyncio.run, play(data_dir, now)).result()
        self._sessions: list[subprocess.Popen[bytes]] = []
        super().__init__(root)
        for name in live:
            made = self.api.post(f"/workspaces/{name}/agent-token", {})
            assert isinstance(made, dict)
            token = root / f"agent-token-{name}"
            token.write_text(made["agent_token"])
            token.chmod(0o600)
            self.start_agent(f"agent-{name}", more=("--token-file", str(token)))

    def open_session(self, *command: str) -> subprocess.Popen[bytes]:
        """A session that stays open until the stack is closed."""
        self._sessions.append(self.spawn_ssh(self.host, *command))
        return self._sessions[-1]

    def close(self) -> None:
        for session in self._sessions:
            session.kill()
            session.wait()
        super().close()


@contextmanager
def played_stack(root: Path, *, live: tuple[str, ...] = (), rows: int = 0) -> Iterator[PlayedStack]:
    """A stack over a history; closed at the end.

    Args:
        root: where everything lies; a history that it holds already is taken as it is.
        live: workspaces of the past that get an agent each.
        rows: connections of the year before the two days.
    """
    stack = PlayedStack(root, live=live, rows=rows)
    try:
        yield stack
    finally:
        stack.close()
