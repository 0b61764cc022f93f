"""The machine that this agent runs on: its boot, its name, and the data directory's lock.

Law: reads only; absence is an honest empty string. No fact is made here.
"""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")
LOCK_FILE = "lock"


class DataDirUnusable(Exception):
    """The data directory cannot be used; the text is one sentence for people."""


def boot_id() -> str:
    """The kernel's id of this boot; "" where there is none."""
    try:
        return BOOT_ID_FILE.read_text().strip()
    except OSError:
        return ""


def hostname() -> str:
    """This machine's name."""
    return socket.gethostname()


class DataDir:
    """An agent's data directory, held by one process at a time until `release` or its death."""

    def __init__(self, path: Path) -> None:
        """Make the directory (mode 0700) where it is missing, and lock it.

        Raises:
            DataDirUnusable: it cannot be made or written, or another agent holds it.
        """
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as wrong:
            raise DataDirUnusable(
                f"the data directory {path} cannot be used: {wrong.strerror}"
            ) from wrong
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as wrong:
            holder = os.pread(self._lock, 20, 0).decode(errors="replace").strip()
            os.close(self._lock)
            who = f"another agent (pid {holder})" if holder else "another agent"
            raise DataDirUnusable(
                f"{who} already uses the data directory {path}; give each agent its own --data-dir"
            ) from wrong
        try:
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
        except OSError:
            pass  # a full disk: the pid is only a courtesy, the lock itself holds

    def release(self) -> None:
        """Let another agent have the directory."""
        os.close(self._lock)
