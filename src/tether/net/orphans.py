"""Orphans: what the first process of a container has to reap.

Law: a process whose parent has ended becomes a child of process 1, and stays in the table, as a zombie,
until that waits for it. A program of ours that is process 1 does; any other leaves it to its system's.
A child that somebody here waits for is left to them: only what is still a zombie at the second look is
an orphan.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

EVERY_S = 0.5
"""How often is looked. A look that finds nothing is one call of the kernel."""

INIT = 1


class OrphanReaper:
    """Reaps from now on, until `stop`, if this process is its container's first one."""

    def __init__(self, *, adopts: bool | None = None) -> None:
        """`adopts` says whether orphans become our children; None to find out."""
        self._loop = asyncio.get_running_loop()
        self._seen: set[int] = set()  # zombies of the last look
        self._timer: asyncio.TimerHandle | None = None
        if os.getpid() == INIT if adopts is None else adopts:
            self._look()

    def stop(self) -> None:
        """Reap no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        zombies = _zombies() if _has_ended_child() else set()
        for pid in zombies & self._seen:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        self._seen = zombies - self._seen
        self._timer = self._loop.call_later(EVERY_S, self._look)


def _has_ended_child() -> bool:
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False


def _zombies() -> set[int]:
    """Our children that have ended and have not been waited for."""
    me, found = str(os.getpid()).encode(), set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            text = stat.read_bytes()
            state, parent = text[text.rindex(b")") + 2 :].split()[:2]  # a name may contain anything
            if state == b"Z" and parent == me:
                found.add(int(stat.parent.name))
    return found
