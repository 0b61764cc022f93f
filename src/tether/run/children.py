"""Programs of ours that `tether up` runs as children: start, wait for an event, stop.

Law: children are started by the main thread (they end with it, see `net.parent`), in process groups
of their own (Ctrl-C is for the parent alone), with an empty signal mask and a log file of their own.
Nothing here decides when to restart.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tether.net.clock import Clock
from tether.net.parent import PARENT_VARIABLE
from tether.net.postmortem.exit_note import leave_note, note_of
from tether.net.tasks import Tasks

LOOK_EVERY_S = 0.05
"""How often a log is looked at while an event is awaited."""

_PRIVATE = ("TETHER_TOKEN", "TETHER_URL", "TETHER_RESULT_FILE")
_DEFAULTS = (signal.SIGPIPE, signal.SIGXFSZ)
"""What Python ignores and a program that it starts must not."""


class ChildProgram:
    """One program, started again and again into the same log."""

    def __init__(
        self,
        name: str,
        arguments: list[str],
        log: Path,
        clock: Clock,
        *,
        leaves_note_in: Path | None = None,
    ) -> None:
        """`leaves_note_in` is its data directory, where its next start looks how it ended."""
        self.name = name
        self.log = log
        self._notes = leaves_note_in
        self.pid: int | None = None
        self.started_at = 0.0
        self._argv = [sys.executable, "-P", "-m", "tether", name, *arguments]
        self._clock = clock
        self._tasks = Tasks(name)
        self._ended: asyncio.Task[int] | None = None
        self._offset = 0

    def start(self) -> None:
        """Start it. Call in the main thread."""
        assert self.pid is None, f"the {self.name} runs already"
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(self.log, flags, 0o600)
        try:
            self._offset = os.fstat(descriptor).st_size
            self.pid = os.posix_spawn(
                sys.executable,
                self._argv,
                child_environment(os.environ),
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, descriptor, 1),
                    (os.POSIX_SPAWN_DUP2, descriptor, 2),
                ],
                setpgroup=0,
                setsigmask=(),
                setsigdef=_DEFAULTS,
            )
        finally:
            os.close(descriptor)
        self.started_at = self._clock.now().mono
        self._ended = self._tasks.spawn(self._wait(self.pid), "wait")

    async def ended(self) -> int:
        """Wait until it has ended: its exit code, or minus the signal that ended it."""
        assert self._ended is not None, f"the {self.name} was never started"
        return await asyncio.shield(self._ended)

    async def wait_event(self, event: str, timeout: float) -> dict[str, Any] | None:
        """The first `event` in the log of this run; None if it ended, or time ran out, first."""
        deadline = self._clock.now().mono + timeout
        while (found := self._find(event)) is None:
            if self.pid is None or self._clock.now().mono >= deadline:
                return self._find(event)
            await asyncio.sleep(LOOK_EVERY_S)
        return found

    def signal(self, number: int) -> None:
        """Send it a signal, if it runs."""
        if self.pid is not None:
            os.kill(self.pid, number)

    async def stop(self, patience: float) -> bool:
        """Ask it to stop, and kill it if it does not in time; False if it had to be killed."""
        if self._ended is None or self.pid is None:
            return True
        self.signal(signal.SIGTERM)
        done, _ = await asyncio.wait([self._ended], timeout=patience)
        if not done:
            self.signal(signal.SIGKILL)
            await asyncio.wait([self._ended])
        return bool(done)

    def last_words(self) -> str:
        """The last line that it logged in this run, in words."""
        for line in reversed(self._lines()):
            if not line.strip():
                continue
            try:
                said = json.loads(line)
            except ValueError:
                return line.strip().removeprefix("tether: ")
            if isinstance(said, dict) and said.get("event"):
                return ": ".join(str(said[k]) for k in ("event", "error") if said.get(k))
        return ""

    async def _wait(self, pid: int) -> int:
        _, status = await asyncio.to_thread(os.waitpid, pid, 0)
        self.pid = None
        if self._notes is not None:
            leave_note(self._notes, note_of(pid, status, self._clock.now().wall))
        return os.waitstatus_to_exitcode(status)

    def _find(self, event: str) -> dict[str, Any] | None:
        for line in self._lines():
            if event in line:
                try:
                    said = json.loads(line)
                except ValueError:
                    return {}  # a log for people
                if isinstance(said, dict) and said.get("event") == event:
                    return said
        return None

    def _lines(self) -> list[str]:
        with self.log.open("rb") as file:
            file.seek(self._offset)
            return file.read().decode(errors="replace").splitlines()


def child_environment(env: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child: it follows us, and does not learn the user's own token."""
    kept = {key: value for key, value in env.items() if key not in _PRIVATE}
    return {**kept, PARENT_VARIABLE: str(os.getpid())}


def how_it_ended(status: int) -> str:
    """The words for `ChildProgram.ended`'s answer."""
    if status < 0:
        return f"was ended by signal {-status}"
    return f"ended with exit code {status}"


def rotate(log: Path) -> None:
    """Keep the last run's log beside this one's."""
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if log.exists():
        log.replace(log.with_name(f"{log.name}.1"))
