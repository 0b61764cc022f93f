"""What this system has of what the client uses; where it lacks something, what is done instead.

Law: the one place that asks. The client imports and runs where a module, a signal or a call of POSIX is
missing (docs/client.md has the table): whoever needs one takes it from here, and gets the next best.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
from collections.abc import Iterable, Mapping
from typing import Any

CLOEXEC: int = getattr(os, "O_CLOEXEC", 0)
NOFOLLOW: int = getattr(os, "O_NOFOLLOW", 0)

_POSIX_SIGNALS = {"SIGHUP": 1, "SIGQUIT": 3, "SIGKILL": 9, "SIGPIPE": 13}
_ANY: Any = signal


def optional(module: str) -> Any:
    """A module of the standard library, or None where this system has none."""
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def number_of(name: str) -> int:
    """The number of a signal, by POSIX where this system does not have it."""
    return int(getattr(signal, name, _POSIX_SIGNALS.get(name, 0)))


def signals(*names: str) -> tuple[signal.Signals, ...]:
    """Those of these signals that there are."""
    return tuple(getattr(signal, name) for name in names if hasattr(signal, name))


# -- signals -------------------------------------------------------------------------------------

TELLS_SENDERS = hasattr(signal, "sigwaitinfo")
"""Whether a signal says who sent it. macOS does not."""

BLOCKS_SIGNALS = hasattr(signal, "pthread_sigmask") and hasattr(signal, "sigwait")
"""Whether signals can be waited for. On Windows they only interrupt."""


def block_signals(some: Iterable[signal.Signals]) -> Any:
    """Keep their default action from happening; what was blocked before, None where nothing can be."""
    return _ANY.pthread_sigmask(_ANY.SIG_BLOCK, some) if BLOCKS_SIGNALS else None


def unblock_signals(before: Any) -> None:
    """Undo `block_signals`."""
    if before is not None:
        _ANY.pthread_sigmask(_ANY.SIG_SETMASK, before)


def wait_for_signal(some: Iterable[signal.Signals]) -> tuple[int, Any]:
    """The next of some blocked signals, and what is told of its sender: None where nothing is."""
    if TELLS_SENDERS:
        info = _ANY.sigwaitinfo(some)
        return info.si_signo, info
    return int(_ANY.sigwait(some)), None


# -- files and descriptors ------------------------------------------------------------------------


def lock(descriptor: int, *, wait: bool) -> None:
    """Have a file for ourselves until it is closed; where files cannot be locked, go on without.

    Raises:
        OSError: somebody else has it, and we were not to wait.
    """
    fcntl = optional("fcntl")
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        return
    msvcrt = optional("msvcrt")
    if msvcrt is not None:  # a byte behind all that is ever written
        os.lseek(descriptor, 1 << 30, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)


def is_raw(descriptor: int) -> bool:
    """Whether this is our terminal, and in raw mode, so that somebody draws on it."""
    termios = optional("termios")
    if termios is None:
        return False
    try:
        modes = termios.tcgetattr(descriptor)[3]
        ours = os.tcgetpgrp(descriptor) == os.getpgrp()
    except (termios.error, OSError):
        return False
    # In the background it is the shell that holds it, which is none of our business.
    return bool(ours and not modes & termios.ICANON)


class TerminalModes:
    """The modes of a terminal, to be changed and given back; does nothing where there are none."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._termios = optional("termios")
        self._before: Any = None

    def remember(self) -> bool:
        """Keep the modes as they are now, unless some are kept; whether there are any."""
        if self._termios is not None and self._before is None:
            try:
                self._before = self._termios.tcgetattr(self._descriptor)
            except self._termios.error:
                return False
        return self._before is not None

    def raw(self) -> None:
        """Let every key through. A terminal that is gone is told by reading."""
        tty = optional("tty")
        if tty is None or self._termios is None:
            return
        try:
            tty.setraw(self._descriptor, self._termios.TCSANOW)
        except self._termios.error:
            pass

    def restore(self) -> None:
        """Give it the modes that were kept."""
        if self._before is None:
            return
        before, self._before = self._before, None
        try:
            self._termios.tcsetattr(self._descriptor, self._termios.TCSADRAIN, before)
        except self._termios.error:
            pass


# -- programs -----------------------------------------------------------------------------------

SPAWNS = BLOCKS_SIGNALS and hasattr(os, "posix_spawn") and hasattr(os, "WNOHANG")
"""Whether a child can be watched with all its signals; else it is only waited for."""


def wait_for_program(argv: list[str], env: Mapping[str, str]) -> int:
    """Run a program and wait for it, where no more can be done; its exit code, or 128+n."""
    with subprocess.Popen(argv, env=dict(env)) as program:
        while True:
            try:
                ended = program.wait()
            except KeyboardInterrupt:  # the terminal has told the program, too
                continue
            return ended if ended >= 0 else 128 - ended
