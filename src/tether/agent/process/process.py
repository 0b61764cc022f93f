"""Processes of sessions: started, signalled, reaped. Nothing here knows SSH.

Law: a process outlives its connection where OpenSSH's would; whoever starts it, `Processes` owns it
until it is reaped. Every process leads its own session (and so its own group, whose id is its pid),
has an empty signal mask and default signal handling (the agent blocks SIGTERM and Python ignores
SIGPIPE; neither may be inherited), and gets no descriptor but its three.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

# posix_spawn cannot change the directory, so a shell does that and then becomes the program. The shell
# also reports what is wrong on the session's own stderr, without a race against the exec.
_SHELL = "/bin/sh"
_TRAMPOLINE = """\
cd -- "$1" 2>/dev/null || {
  echo "tether: the directory $1 cannot be entered; starting in /" >&2
  cd /
}
unset OLDPWD
shift
if [ ! -x "$1" ] || [ -d "$1" ]; then
  echo "tether: $1 does not exist or may not be run" >&2
  exit 127
fi
exec "$@"
"""

_CATCHABLE = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
_HANG_UP_GRACE_S = 2.0
_LOOK_EVERY_S = 0.05
_KILLED_CHILD = 128 + 9
"""What a shell exits with whose last command was ended by SIGKILL."""


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How a process ended: with a code, or by a signal."""

    code: int | None = None
    signal: str | None = None
    """Its name without SIG."""
    core_dumped: bool = False
    out_of_memory: bool = False
    """The kernel killed it, or a process that it had started, for want of memory."""

    @classmethod
    def from_wait(cls, status: int) -> ExitStatus:
        """Read what waitpid(2) says."""
        if not os.WIFSIGNALED(status):
            return cls(code=os.waitstatus_to_exitcode(status))
        number = os.WTERMSIG(status)
        try:
            name = signal.Signals(number).name.removeprefix("SIG")
        except ValueError:
            name = f"RT{number}"
        return cls(signal=name, core_dumped=os.WCOREDUMP(status))


@dataclass(slots=True)
class Pipes:
    """Our ends of a process's standard streams, non-blocking; whoever takes one closes it."""

    stdin: int
    stdout: int
    stderr: int


class Process:
    """One process that leads its own session. `status` is None while it runs."""

    def __init__(self, pid: int, on_exit: Callable[[ExitStatus], None]) -> None:
        self.pid = pid
        self.status: ExitStatus | None = None
        self.on_exit = on_exit

    def signal(self, number: int) -> None:
        """Send a signal to the whole group; nothing happens once the process has ended."""
        if self.status is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)


class Processes:
    """Every process of every session, until it is reaped."""

    def __init__(self, killed_for_memory: Callable[[int | None], bool] = lambda pid: False) -> None:
        """`killed_for_memory` is asked about every process that SIGKILL has just ended, with its pid;
        and with None about every one that passes on such an end of a child of its own, as shells do.
        """
        self._killed_for_memory = killed_for_memory
        _keep_descriptors_to_ourselves()
        self._loop = asyncio.get_running_loop()
        self._live: dict[int, Process] = {}
        self._sessions: set[int] = set()  # see `remember`
        self._quiet = asyncio.Event()
        self._quiet.set()

    def __len__(self) -> int:
        return len(self._live)

    def spawn(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        directory: str,
        on_exit: Callable[[ExitStatus], None],
    ) -> tuple[Process, Pipes]:
        """Start `argv` with three pipes.

        Args:
            argv: the program and its arguments.
            env: the whole environment.
            directory: where it starts; "/" is taken, with a note on its stderr, if that fails.
            on_exit: called once, in the loop, when it has been reaped.

        Raises:
            OSError: it could not be started.
        """
        theirs, ours = [-1, -1, -1], [-1, -1, -1]
        try:
            for number in range(3):
                read, write = (_above_standard(end) for end in os.pipe())
                theirs[number], ours[number] = (read, write) if number == 0 else (write, read)
                os.set_blocking(ours[number], False)
            actions = [(os.POSIX_SPAWN_DUP2, theirs[number], number) for number in range(3)]
            process = self._start(argv, env, directory, actions, on_exit)
        except BaseException:
            _close_all(ours)
            raise
        finally:
            _close_all(theirs)
        return process, Pipes(*ours)

    def spawn_on_terminal(
        self,
        argv: Sequence[str],
        terminal: str,
        *,
        env: Mapping[str, str],
        directory: str,
        on_exit: Callable[[ExitStatus], None],
    ) -> Process:
        """Start `argv` on the terminal at path `terminal`, which becomes its controlling one.

        The file actions come after setsid, and the first terminal that a session leader without one
        opens becomes its controlling terminal.

        Raises:
            OSError: it could not be started.
        """
        actions: list[tuple[Any, ...]] = [
            (os.POSIX_SPAWN_OPEN, 0, terminal, os.O_RDWR, 0),
            (os.POSIX_SPAWN_DUP2, 0, 1),
            (os.POSIX_SPAWN_DUP2, 0, 2),
        ]
        return self._start(argv, env, directory, actions, on_exit)

    def remember(self) -> None:
        """Sessions begin to end: keep in mind those that are there now, so that `end_all` finds what
        their leaders leave behind."""
        self._sessions |= self._live.keys()

    async def end_all(self, grace: float = _HANG_UP_GRACE_S) -> None:
        """Hang up on every process of every session that is left or was when `remember` was called,
        and kill what has not ended after `grace` seconds, or at once when cancelled. What is started
        meanwhile is left alone.

        A job of a shell leads a group of its own, and may ignore SIGHUP: it is found by its session.
        """
        left = list(self._live.values())
        sessions = self._sessions | {process.pid for process in left}
        self._sessions = set()
        try:
            members = _members(sessions)
            for pid in members:
                _signal(pid, signal.SIGHUP)
            for process in () if members else left:
                process.signal(signal.SIGHUP)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await self._quiet.wait()
                    while _members(sessions):  # noqa: ASYNC110  # whose children they are not hears nothing
                        await asyncio.sleep(_LOOK_EVERY_S)
        finally:
            for process in left:
                process.signal(signal.SIGKILL)
            for pid in _members(sessions):
                _signal(pid, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._quiet.wait(), grace)

    def _start(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        directory: str,
        actions: Sequence[tuple[Any, ...]],
        on_exit: Callable[[ExitStatus], None],
    ) -> Process:
        try:
            pid = os.posix_spawn(
                _SHELL,
                [_SHELL, "-c", _TRAMPOLINE, "tether", directory, *argv],
                env,
                file_actions=actions,
                setsid=True,
                setsigmask=(),
                setsigdef=_CATCHABLE,
            )
        except ValueError as wrong:  # a NUL byte in a word or a variable
            raise OSError(str(wrong)) from wrong
        process = Process(pid, on_exit)
        self._live[pid] = process
        self._quiet.clear()
        self._watch(process)
        return process

    def _watch(self, process: Process) -> None:
        try:
            descriptor = os.pidfd_open(process.pid)
        except OSError:  # a sandbox without pidfd_open(2): a thread waits instead
            self._watch_in_thread(process)
            return

        def ready() -> None:
            waited = _wait(process.pid, os.WNOHANG)
            if waited is not None:
                self._loop.remove_reader(descriptor)
                os.close(descriptor)
                self._ended(process, waited)

        self._loop.add_reader(descriptor, ready)

    def _watch_in_thread(self, process: Process) -> None:
        def wait() -> None:
            waited = _wait(process.pid, 0) or ExitStatus()
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
                self._loop.call_soon_threadsafe(self._ended, process, waited)

        threading.Thread(target=wait, name=f"wait-{process.pid}", daemon=True).start()

    def _ended(self, process: Process, status: ExitStatus) -> None:
        if status.signal == "KILL" or status.code == _KILLED_CHILD:
            pid = process.pid if status.signal else None
            status = replace(status, out_of_memory=self._killed_for_memory(pid))
        process.status = status
        del self._live[process.pid]
        if not self._live:
            self._quiet.set()
        process.on_exit(status)


def _wait(pid: int, options: int) -> ExitStatus | None:
    """How `pid` ended; None while it runs; an empty status if somebody else has reaped it."""
    try:
        reaped, status = os.waitpid(pid, options)
    except ChildProcessError:
        return ExitStatus()
    return ExitStatus.from_wait(status) if reaped else None


def _members(sessions: Set[int]) -> list[int]:
    """The processes of these sessions, which go by the pids of their leaders, those that are there
    still; zombies do not count. Empty where there is no /proc."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat") if sessions else ():
        with contextlib.suppress(OSError):
            text = stat.read_bytes()
            fields = text[text.rindex(b")") + 2 :].split()  # a name may contain anything
            if int(fields[3]) in sessions and fields[0] not in (b"Z", b"X"):
                found.append(int(stat.parent.name))
    return found


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _keep_descriptors_to_ourselves() -> None:
    """Descriptors that we inherited pass to no process of ours; Python's own never pass an exec."""
    with contextlib.suppress(OSError):
        for name in os.listdir("/dev/fd"):
            if int(name) > 2:
                with contextlib.suppress(OSError):
                    os.set_inheritable(int(name), False)


def _above_standard(descriptor: int) -> int:
    """`descriptor`, moved out of the way of 0 to 2 (an agent may run with those closed)."""
    if descriptor > 2:
        return descriptor
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(descriptor)
    return moved


def _close_all(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        if descriptor >= 0:
            os.close(descriptor)
