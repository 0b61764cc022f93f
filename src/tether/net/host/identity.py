"""Which boot of which machine, and which start of which container, this process runs in.

Law: reads only; what cannot be told is "". The values mean something only in comparison with those of
another run.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from tether.net.host.cgroup import PROC

_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_UUID = re.compile(r"[/-]pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12})")
_MARKS = ("/.dockerenv", "/run/.containerenv")


@dataclass(frozen=True, slots=True)
class HostIdentity:
    """Where a process runs."""

    boot_id: str = ""
    container_id: str = ""
    """An id of the container, where its runtime shows one."""
    init_start: str = ""
    """When process 1 of our namespace started, in ticks since the boot: another start, another value."""

    def rebooted_since(self, earlier: HostIdentity) -> bool:
        """Whether this is another boot: the machine was restarted, or this is another machine."""
        return _differ(self.boot_id, earlier.boot_id)

    def another_container_than(self, earlier: HostIdentity) -> bool:
        """Whether this is another container, or on the same boot another start of the same one."""
        if _differ(self.container_id, earlier.container_id):
            return True
        return not self.rebooted_since(earlier) and _differ(self.init_start, earlier.init_start)


def identify(proc: Path = PROC, root: Path = Path("/")) -> HostIdentity:
    """Where this process runs."""
    return HostIdentity(
        boot_id=boot_id(proc),
        container_id=container_id(proc, root),
        init_start=_start_of(proc / "1" / "stat"),
    )


def boot_id(proc: Path = PROC) -> str:
    """The kernel's id of this boot; "" where it tells none."""
    return _read(proc / "sys/kernel/random/boot_id").strip()


def container_id(proc: Path = PROC, root: Path = Path("/")) -> str:
    """The id of our container; "" outside of one, or where its runtime shows none."""
    groups = _read(proc / "self/cgroup")
    if found := _ID.search(groups):
        return found[0]
    for line in _read(proc / "self/mountinfo").splitlines():
        # Docker and its kin mount their own /etc/hostname and /etc/hosts, from a directory of its id.
        fields = line.split()
        if len(fields) > 4 and fields[4] in ("/etc/hostname", "/etc/hosts", "/etc/resolv.conf"):
            if found := _ID.search(fields[3]):
                return found[0]
            if pod := re.search(r"/pods/([0-9a-f-]{36})/", fields[3]):
                return pod[1]
    if pod := _UUID.search(groups):
        return pod[1].replace("_", "-")
    if any((root / mark.lstrip("/")).exists() for mark in _MARKS):
        return os.uname().nodename
    return ""


def in_first_pid_namespace(proc: Path = PROC) -> bool:
    """Whether our process ids are those in the kernel's log."""
    try:
        return os.readlink(proc / "self/ns/pid") == "pid:[4026531836]"  # PROC_PID_INIT_INO
    except OSError:
        return False


def _differ(one: str, other: str) -> bool:
    return bool(one and other and one != other)


def _start_of(path: Path) -> str:
    stat = _read(path)
    fields = stat[stat.rfind(")") + 1 :].split()
    return fields[19] if len(fields) > 19 else ""


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
