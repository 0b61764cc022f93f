"""Crash handlers: a process that is ended by a signal writes down which one.

Law: `arm` is called once, in the main thread, after what the last run left has been taken over. All
signals that end a process by default are handled, and then have their default effect, except those that
`net.signals` takes as a request to stop, and SIGKILL, which cannot be handled: a run that wrote nothing
was ended by that.
"""

from __future__ import annotations

import faulthandler
import os
import re
import signal
from pathlib import Path
from types import FrameType

from tether.net.postmortem.flight_recorder import CRASH_FILE

_BY_WORDS = {
    "Segmentation fault": signal.SIGSEGV,
    "Aborted": signal.SIGABRT,
    "Bus error": signal.SIGBUS,
    "Illegal instruction": signal.SIGILL,
    "Floating point exception": signal.SIGFPE,
    "Floating-point exception": signal.SIGFPE,
}
_OTHERS = (
    *("SIGQUIT", "SIGUSR1", "SIGALRM", "SIGVTALRM", "SIGPROF", "SIGXCPU", "SIGIO", "SIGPWR"),
    *("SIGSYS", "SIGTRAP", "SIGSTKFLT"),
)
ROOM = 16 << 10
"""Bytes that are reserved in the file."""

_FATAL = re.compile(r"^Fatal Python error: (.+)$", re.M)
_ENDED = re.compile(r"^Ended by signal (\d+)$", re.M)
_STACK = re.compile(r'^  File "(.+)", line (\d+) in (.+)$', re.M)


def arm(directory: Path) -> bool:
    """Switch the handlers on. Returns whether they are."""
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        descriptor = os.open(directory / CRASH_FILE, flags, 0o600)
    except OSError:
        return False
    if not _reserve(descriptor):
        os.close(descriptor)
        return False
    faulthandler.enable(descriptor, all_threads=True)  # it stays open until the process ends

    def last_word(number: int, _: FrameType | None) -> None:
        os.write(descriptor, f"Ended by signal {number}\n".encode())
        faulthandler.dump_traceback(descriptor)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    for name in _OTHERS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, last_word)
    return True


def _reserve(descriptor: int) -> bool:
    """Fill the file now, for the disk may be full when it is needed. Returns whether that was
    possible."""
    try:
        written = os.write(descriptor, b"\n" * ROOM)
        os.lseek(descriptor, 0, os.SEEK_SET)
    except OSError:
        return False
    return written == ROOM


def read_crash(directory: Path) -> tuple[int, str]:
    """The signal that the handlers saw (0 for none), and where in the program, for people."""
    try:
        text = (directory / CRASH_FILE).read_text(errors="replace")
    except OSError:
        return 0, ""
    innermost = _STACK.search(text)
    where = f"{innermost[3]} ({Path(innermost[1]).name}:{innermost[2]})" if innermost else ""
    if ended := _ENDED.search(text):
        return int(ended[1]), where
    if fatal := _FATAL.search(text):
        return int(_BY_WORDS.get(fatal[1].strip(), signal.SIGABRT)), where
    return 0, where
