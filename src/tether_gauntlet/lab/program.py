"""A process in a host: its output in files, its JSON log lines, and its end.

Law: signalled by pid or by its own process group, never by name. Waiting polls with a deadline, and a
missed deadline shows the end of the log.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import termios
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

from tether_gauntlet.lab.shell import LabError, wait_for

T = TypeVar("T")

TAIL = 3000


class Program:
    """A process that runs by itself; made by `Host.start`."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str],
        terminal: bool = False,
    ) -> None:
        self.name = name
        self.log = log
        self.out = log.with_suffix(".out")
        self._offset = log.stat().st_size if log.exists() else 0
        self._out_offset = self.out.stat().st_size if self.out.exists() else 0
        self._terminal: int | None = None
        if terminal:
            self._terminal, theirs = pty.openpty()
            termios.tcsetwinsize(theirs, (24, 80))
            try:
                self.process = subprocess.Popen(
                    list(argv), stdin=theirs, stdout=theirs, stderr=theirs, env=env
                )
            finally:
                os.close(theirs)
            os.set_blocking(self._terminal, False)
        else:
            with log.open("ab") as stderr, self.out.open("ab") as stdout:
                self.process = subprocess.Popen(
                    list(argv),
                    stdin=subprocess.PIPE,
                    stdout=stdout,
                    stderr=stderr,
                    env=env,
                    start_new_session=True,
                )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit code, minus the number of the signal that ended it, or None while it runs."""
        return self.process.poll()

    # -- what it says ------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Write to its input, or to its terminal if it has one."""
        if self._terminal is not None:
            os.write(self._terminal, data)
            return
        stdin = self._stdin()
        stdin.write(data)
        stdin.flush()

    def end_input(self) -> None:
        """Close its input, so that it reads an end of file."""
        self._stdin().close()

    def output(self) -> bytes:
        """Everything that it has written to its standard output (or terminal)."""
        if self._terminal is not None:
            with self.out.open("ab") as kept, contextlib.suppress(OSError):
                while data := os.read(self._terminal, 65536):
                    kept.write(data)
        with contextlib.suppress(FileNotFoundError), self.out.open("rb") as file:
            file.seek(self._out_offset)
            return file.read()
        return b""

    def errors(self) -> str:
        """Everything that it has written to its standard error."""
        with contextlib.suppress(FileNotFoundError), self.log.open("rb") as file:
            file.seek(self._offset)
            return file.read().decode(errors="replace")
        return ""

    def wait_output(self, text: bytes, seconds: float = 20.0) -> bytes:
        """The output, once it holds `text`."""

        def check() -> bytes | None:
            said = self.output()
            return said if text in said else None

        return self.wait(f"{text!r} in the output of {self.name}", check, seconds)

    def events(self, name: str | None = None, *, all_runs: bool = False) -> list[dict[str, Any]]:
        """The JSON lines on its standard error; of all runs under this name, or of this one.

        Args:
            name: only lines whose `event` is this.
        """
        lines = []
        with contextlib.suppress(FileNotFoundError), self.log.open("rb") as file:
            file.seek(0 if all_runs else self._offset)
            for raw in file:
                with contextlib.suppress(ValueError):
                    line = json.loads(raw)
                    if isinstance(line, dict) and name in (None, line.get("event")):
                        lines.append(line)
        return lines

    def wait_event(
        self,
        name: str,
        seconds: float = 20.0,
        *,
        where: Callable[[dict[str, Any]], bool] = lambda line: True,
    ) -> dict[str, Any]:
        """The first log line of that event (for which `where` holds)."""

        def check() -> dict[str, Any] | None:
            return next(filter(where, self.events(name)), None)

        return self.wait(f"the log line {name!r} of {self.name}", check, seconds)

    def wait(self, what: str, check: Callable[[], T | None], seconds: float = 20.0) -> T:
        """The first truthy answer of `check`, while this process runs."""

        def step() -> T | None:
            ended = self.returncode is not None  # before the check: its last words count
            answer = check()
            if not answer and ended:
                raise LabError(
                    f"{self.name} exited {self.returncode}, without {what}\n{self.tail()}"
                )
            return answer

        return wait_for(what, step, seconds, shown=self.tail)

    def tail(self) -> str:
        said = self.output().decode(errors="replace")[-TAIL:]
        return f"{said}\n{self.errors()[-TAIL:]}".strip()

    # -- its end -----------------------------------------------------------------------

    def send_signal(self, number: int) -> None:
        """Send a signal to this process alone."""
        self.process.send_signal(number)

    def signal_group(self, number: int) -> None:
        """Send a signal to its whole process group. Harmless if it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def stop(self, number: int = signal.SIGTERM, seconds: float = 15.0) -> int:
        """Ask it to end, and wait; its exit code.

        Raises:
            LabError: it did not heed the signal; it was killed.
        """
        self.send_signal(number)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise LabError(f"{self.name} ignored signal {number}\n{self.tail()}") from None

    def exit_code(self, seconds: float = 20.0) -> int:
        """Wait for it to end by itself; its exit code."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise LabError(f"{self.name} still runs after {seconds:g} s\n{self.tail()}") from None

    def kill(self) -> None:
        """End it and its process group at once. Harmless if it has ended."""
        self.signal_group(signal.SIGKILL)
        self.process.wait(10)
        self.release()

    def release(self) -> None:
        """Close this side's end of its input and its terminal."""
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        if self._terminal is not None:
            self.output()
            os.close(self._terminal)
            self._terminal = None

    def _stdin(self) -> IO[bytes]:
        if self.process.stdin is None:
            raise LabError(f"{self.name} has a terminal and no pipe as its input")
        return self.process.stdin


def children(pid: int) -> list[int]:
    """The processes that `pid` started, and theirs, the youngest first."""
    found: list[int] = []
    with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{pid}/children") as file:
        for child in map(int, file.read().split()):
            found = [*children(child), child, *found]
    return found
