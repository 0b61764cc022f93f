"""Names that tell who owns a namespace or a control group, and the sweep of what dead owners left.

Law: a name is `tlab-PID-START-N…`, START being the owner's start time, so that a reused pid is not
taken for the owner. Only what carries such a name of a dead owner is ever removed.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from tether_gauntlet.lab.shell import POLL_S, LabError, call

PREFIX = "tlab"
NETNS = Path("/run/netns")
CGROUPS = Path("/sys/fs/cgroup")
DEATH_S = 30.0
"""How long killed processes may take to be gone, on a machine that is busy."""

_NAME = re.compile(rf"{PREFIX}-(?P<pid>\d+)-(?P<start>\d+)-(?P<lab>\d+)(?:-|$)")
_numbers = itertools.count(1)


def new_lab_name() -> str:
    """A name that no other laboratory on this machine has."""
    pid = os.getpid()
    return f"{PREFIX}-{pid}-{start_time(pid)}-{next(_numbers)}"


def start_time(pid: int) -> int | None:
    """When a process began, in clock ticks after boot; None if there is no such process."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def is_orphan(name: str) -> bool:
    """Whether `name` is ours by its form and its owner is dead."""
    found = _NAME.match(name)
    return found is not None and start_time(int(found["pid"])) != int(found["start"])


def processes_in(namespaces: Collection[str]) -> list[int]:
    """The processes in the network namespaces of these names, without the calling one."""
    inodes = set()
    for name in namespaces:
        with contextlib.suppress(OSError):
            inodes.add((NETNS / name).stat().st_ino)
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{entry.name}/ns/net").st_ino in inodes:
                    found.append(int(entry.name))
    return found


def kill_all_in(namespaces: Collection[str]) -> None:
    """Kill every process in these namespaces, and what those may have started meanwhile."""
    deadline = time.monotonic() + DEATH_S
    while pids := processes_in(namespaces):
        if time.monotonic() > deadline:
            raise LabError(f"processes in {sorted(namespaces)} cannot be killed: {pids}")
        for pid in pids:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
        # a killed process leaves its namespace when it is scheduled to die, not when it is told
        time.sleep(POLL_S)


def delete_namespaces(names: Collection[str]) -> None:
    """Remove the names; the kernel frees a namespace when its last process is gone."""
    call(
        ["ip", "-force", "-batch", "-"],
        given="".join(f"netns del {n}\n" for n in names),
        check=False,
    )


def orphaned_cgroups() -> Iterator[Path]:
    for controller in CGROUPS.glob("*"):
        for group in controller.glob(f"{PREFIX}-*"):
            if is_orphan(group.name):
                yield group


def sweep() -> list[str]:
    """Remove what laboratories of dead owners left behind, and return its names."""
    names = [path.name for path in NETNS.glob(f"{PREFIX}-*") if is_orphan(path.name)]
    groups = list(orphaned_cgroups())
    for group in groups:
        with contextlib.suppress(OSError):  # only a freezer has it; a frozen process cannot die
            (group / "freezer.state").write_text("THAWED")
    if names:
        kill_all_in(names)
        delete_namespaces(names)
    for group in groups:
        with contextlib.suppress(OSError):  # another sweep may be at it
            group.rmdir()
    return names + [str(group) for group in groups]
