"""The exit note: a parent of ours writes down how a program of ours ended, for that one's next start.

Law: says what waitpid(2) says, and nothing else. A note counts only for the process that it names.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from tether.net.postmortem.flight_recorder import NOTE_FILE


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitNote:
    """How one process ended."""

    pid: int
    at: float
    """The wall clock."""
    signal: int = 0
    """The signal that ended it; 0 where it exited."""
    exit_status: int | None = None
    """Where it exited."""
    core: bool = False
    """Whether the kernel wrote a core file."""


def note_of(pid: int, status: int, at: float) -> ExitNote:
    """The note for a status of waitpid(2)."""
    if os.WIFSIGNALED(status):
        return ExitNote(pid=pid, at=at, signal=os.WTERMSIG(status), core=os.WCOREDUMP(status))
    return ExitNote(pid=pid, at=at, exit_status=os.waitstatus_to_exitcode(status))


def leave_note(directory: Path, note: ExitNote) -> None:
    """Write `note` into the directory of the program that ended, if that is possible."""
    path = directory / NOTE_FILE
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    except OSError:
        return
    try:
        os.write(descriptor, json.dumps(asdict(note)).encode())
    except OSError:
        pass  # a full disk: the next start knows less
    finally:
        os.close(descriptor)


def read_note(directory: Path, pid: int, since: float) -> ExitNote | None:
    """The note about process `pid`, started at `since`; None where there is none."""
    try:
        note = ExitNote(**json.loads((directory / NOTE_FILE).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    return note if note.pid == pid and note.at >= since else None
