"""Vital signs of this process and its machine: one small sample a second, the last thirty kept.

Law: reads only, and cheap: a sample is a dozen small files of /proc and /sys, 0.3 ms in all (measured:
0.03 % of a CPU at one a second), all of them from memory; the disk, which may hang, is looked at by
`look_at_disk` in a thread. What the kernel does not tell is None. The counters (`oom_kills`,
`throttled_s`, `cpu_s`, `waited_s`) are running totals.
"""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tether.net.clock import thread_account
from tether.net.host.cgroup import PROC, Cgroup, CgroupReading
from tether.net.host.pressure import PressureReader, PressureReading

if os.name == "posix":
    import resource

KEPT = 30
DISK_FULL_BELOW = 64 << 10
"""A disk with less than this is full: not even a journal's page fits for long."""

DESCRIPTORS_SPARE = 2
"""With fewer free descriptors than this nothing can be accepted."""


@dataclass(frozen=True, slots=True)
class VitalSample:
    """One second's look. `at` is the wall clock, `lag_s` how late the loop was for it."""

    at: float
    lag_s: float = 0.0
    cpu_s: float | None = None
    waited_s: float | None = None
    group: CgroupReading = field(default_factory=CgroupReading)
    pressure: PressureReading = field(default_factory=PressureReading)
    resident: int | None = None
    descriptors: int | None = None
    descriptor_limit: int | None = None
    disk_free: int | None = None

    @property
    def disk_full(self) -> bool:
        return self.disk_free is not None and self.disk_free < DISK_FULL_BELOW

    @property
    def out_of_descriptors(self) -> bool:
        return (
            self.descriptors is not None
            and self.descriptor_limit is not None
            and self.descriptors > self.descriptor_limit - DESCRIPTORS_SPARE
        )

    def brief(self) -> dict[str, Any]:
        """What is worth a line in a marker: short names, and nothing that is not known."""
        told = {
            "at": round(self.at, 1),
            "lag": round(self.lag_s, 2) or None,
            "cpu": _rounded(self.cpu_s),
            "waited": _rounded(self.waited_s),
            "throttled": _rounded(self.group.throttled_s),
            "oom_kills": self.group.oom_kills,
            "memory": self.group.memory,
            "memory_limit": self.group.memory_limit,
            "resident": self.resident,
            "memory_full": self.pressure.memory_full or None,
            "io_full": self.pressure.io_full or None,
            "cpu_some": self.pressure.cpu_some or None,
            "descriptors": self.descriptors,
            "disk_free": self.disk_free,
        }
        return {name: value for name, value in told.items() if value is not None}


class VitalSigns:
    """Takes samples of this process; `directory` is where its files are (and its disk)."""

    def __init__(self, directory: Path | None, *, group: Cgroup, proc: Path = PROC) -> None:
        self.group = group
        self.directory = directory
        self._proc = proc
        self._disk_free: int | None = None
        self._pressure = PressureReader(group.unified, proc)
        self.ring: deque[VitalSample] = deque(maxlen=KEPT)

    def sample(self, at: float, lag_s: float = 0.0) -> VitalSample:
        """Take one, and keep it. Call it in the thread of the event loop."""
        account = thread_account()
        descriptors, limit = self._descriptors()
        taken = VitalSample(
            at=at,
            lag_s=lag_s,
            cpu_s=None if account is None else account[0],
            waited_s=None if account is None else account[1],
            group=self.group.read(),
            pressure=self._pressure.read(),
            resident=self._resident(),
            descriptors=descriptors,
            descriptor_limit=limit,
            disk_free=self._disk_free,
        )
        self.ring.append(taken)
        return taken

    def look_at_disk(self) -> None:
        """Look how much is left, for the samples to come. Blocks for as long as the disk hangs."""
        self._disk_free = disk_free(self.directory)

    def _resident(self) -> int | None:
        try:
            pages = int((self._proc / "self/statm").read_bytes().split()[1])
        except (OSError, ValueError, IndexError):
            return None
        return pages * resource.getpagesize()

    def _descriptors(self) -> tuple[int | None, int | None]:
        directory = self._proc / "self/fd"
        try:
            count = directory.stat().st_size or len(os.listdir(directory))  # a size since Linux 6.2
        except OSError:
            return None, None
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return count, None if limit == resource.RLIM_INFINITY else limit


def disk_free(directory: Path | None) -> int | None:
    """Bytes that are left to us on the disk of `directory`; None where that is not told."""
    if directory is None:
        return None
    try:
        told = os.statvfs(directory)
    except OSError:
        return None
    return told.f_bavail * told.f_frsize


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
