"""Vital signs of this process and its machine: one small sample a second, of which the last are kept.

Law: reads only. A sample is a dozen small files of /proc and /sys and takes 0.3 ms (measured; 0.03 % of
a CPU at one a second). None of them is on a disk; the free space of the disk, which may hang, is read
by `look_at_disk` in a thread. What the kernel does not tell is None.
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
"""Samples that are kept."""

DISK_FULL_BELOW = 64 << 10
"""A disk with fewer free bytes than this counts as full: a database cannot write for long."""

DESCRIPTORS_SPARE = 2
"""A process with fewer free descriptors than this can accept nothing."""


@dataclass(frozen=True, slots=True)
class VitalSample:
    """One sample."""

    at: float
    """The wall clock."""
    lag_s: float = 0.0
    """How late the loop was for it."""
    cpu_s: float | None = None
    """How long the loop's thread has used a CPU since it began."""
    waited_s: float | None = None
    """How long the loop's thread has waited for a CPU since it began."""
    group: CgroupReading = field(default_factory=CgroupReading)
    pressure: PressureReading = field(default_factory=PressureReading)
    resident: int | None = None
    """Bytes of this process that are in memory."""
    descriptors: int | None = None
    """Descriptors that this process has open."""
    descriptor_limit: int | None = None
    disk_free: int | None = None
    """Bytes that are free for us on the disk of the process's directory."""

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
        """The values that are known, for the flight recorder's file."""
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
    """Takes samples of this process."""

    def __init__(self, directory: Path | None, *, group: Cgroup, proc: Path = PROC) -> None:
        """`directory` is where the process keeps its files; its disk is the one that is watched."""
        self.group = group
        self.directory = directory
        self._proc = proc
        self._disk_free: int | None = None
        self._pressure = PressureReader(group.unified, proc)
        self.ring: deque[VitalSample] = deque(maxlen=KEPT)

    def sample(self, at: float, lag_s: float = 0.0) -> VitalSample:
        """Take a sample and keep it. Call this in the thread of the event loop."""
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
        """Read how much disk is free, for the next samples. Blocks for as long as the disk hangs."""
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
    """Bytes that are free for us on the disk of `directory`; None where that is not told."""
    if directory is None:
        return None
    try:
        told = os.statvfs(directory)
    except OSError:
        return None
    return told.f_bavail * told.f_frsize


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
