"""Claims about orphans, with real processes that this one adopts as a first process would."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.deadline import DEADLINE_S
from tether.net import orphans
from tether.net.orphans import OrphanReaper

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="who adopts orphans is Linux's")
PR_SET_CHILD_SUBREAPER = 36


@pytest.fixture
def adopting() -> Iterator[None]:
    """While it lasts, orphans of this process's descendants become its children."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    try:
        yield
    finally:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


async def gone(pid: int) -> None:
    """Return when nothing is left of the process, not even a zombie."""
    async with asyncio.timeout(DEADLINE_S):
        while Path(f"/proc/{pid}").exists():
            await asyncio.sleep(0)


async def orphan() -> int:
    """The pid of a process whose parent has ended."""
    shell = await asyncio.create_subprocess_exec(
        *("sh", "-c", "sleep 0.01 >/dev/null & echo $!"), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await shell.communicate()
    return int(out)


async def test_orphans_are_reaped_and_our_own_children_are_left_to_who_waits_for_them(
    adopting: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphans, "EVERY_S", 0.05)
    reaper = OrphanReaper(adopts=True)
    try:
        await gone(await orphan())
        child = await asyncio.create_subprocess_exec("sh", "-c", "exit 3")
        assert await child.wait() == 3
    finally:
        reaper.stop()


async def test_a_program_that_is_not_the_first_process_reaps_nothing(adopting: None) -> None:
    reaper = OrphanReaper()
    pid = await orphan()
    try:
        assert os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT) is not None
        assert reaper._timer is None
    finally:
        reaper.stop()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
