"""Programs of ours in processes of their own, which share the second that their imports take.

Law: what runs is a program's own entry point, in a process with a session, an environment and a stderr
of its own; it is signalled and waited for like any other. Only Python's start and the imports are not
its own: it is forked from a process that has done them. Tests of how a program is started start it as
people do.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cache
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

PRELOADED = [__name__, "tether.run.agent", "tether.run.relay", "tether.run.server", "uvloop"]


@cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


class Forked:
    """One such process; the part of `subprocess.Popen` that tests use."""

    def __init__(
        self, program: Callable[[], Any], stderr: Connection | Path, env: Mapping[str, str]
    ) -> None:
        """`program` is called in the process, and may be pickled; what it returns is the exit code.

        `stderr` is a file that is appended to, with what it prints, or the writing end of a pipe.
        """
        self._process = _context().Process(
            target=_become, args=(program, stderr, dict(env)), daemon=True
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid
        self.sentinel: int = self._process.sentinel
        """Becomes readable when it has ended."""

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, negative for a signal. Raises `subprocess.TimeoutExpired`."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0.0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self._process.exitcode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def pipe() -> tuple[Connection, Connection]:
    """The reading and the writing end."""
    return _context().Pipe(duplex=False)


def _become(
    program: Callable[[], Any], stderr: Connection | Path, environment: dict[str, str]
) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    if isinstance(stderr, Path):
        descriptor = os.open(stderr, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.close(descriptor)
    else:
        os.dup2(stderr.fileno(), 2)
        stderr.close()
    sys.exit(program())
