"""Control groups (version 1): a memory limit, a CPU quota, a process limit and a freezer.

Law: a group is made for one laboratory, carries its name, and is removed with it.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tether_gauntlet.lab.names import CGROUPS
from tether_gauntlet.lab.shell import wait_for

CONTROLLERS = tuple(
    name for name in ("memory", "cpu", "freezer", "pids") if (CGROUPS / name / "tasks").exists()
)
PERIOD_US = 100_000


@dataclass(frozen=True, slots=True)
class LabCgroup:
    """One group in each of the controllers memory, cpu, freezer and pids that there are."""

    name: str

    @classmethod
    def create(cls, name: str) -> LabCgroup:
        for controller in CONTROLLERS:
            (CGROUPS / controller / name).mkdir()
        return cls(name)

    def path(self, controller: str) -> Path:
        return CGROUPS / controller / self.name

    def limit_memory(self, size: int) -> None:
        """Allow at most `size` bytes (-1: no limit). Beyond it, the kernel kills."""
        (self.path("memory") / "memory.limit_in_bytes").write_text(str(size))

    def limit_cpu(self, share: float, *, period_us: int = PERIOD_US) -> None:
        """Allow at most `share` of one core in each period; the smallest quota is 1 ms."""
        (self.path("cpu") / "cpu.cfs_period_us").write_text(str(period_us))
        (self.path("cpu") / "cpu.cfs_quota_us").write_text(str(max(1000, int(share * period_us))))

    def unlimit_cpu(self) -> None:
        (self.path("cpu") / "cpu.cfs_quota_us").write_text("-1")

    def limit_processes(self, count: int) -> None:
        """Allow at most so many threads, all processes together. Beyond it, none can be started."""
        (self.path("pids") / "pids.max").write_text(str(count))

    def threads(self) -> int:
        """How many threads there are now."""
        return int((self.path("pids") / "pids.current").read_text())

    def freeze(self) -> None:
        """Stop every process of the group, without a signal, and wait until it is so."""
        state = self.path("freezer") / "freezer.state"
        state.write_text("FROZEN")
        wait_for(f"{self.name} to freeze", lambda: state.read_text().strip() == "FROZEN", 5)

    def thaw(self) -> None:
        (self.path("freezer") / "freezer.state").write_text("THAWED")

    def oom_kills(self) -> int:
        """How many of its processes the kernel has killed for want of memory."""
        text = (self.path("memory") / "memory.oom_control").read_text()
        return next(int(line.split()[1]) for line in text.splitlines() if "oom_kill " in line)

    def throttled(self) -> int:
        """In how many periods its processes had used up their quota and had to wait."""
        text = (self.path("cpu") / "cpu.stat").read_text()
        return next(int(line.split()[1]) for line in text.splitlines() if "nr_throttled" in line)

    def pids(self) -> list[int]:
        return [int(pid) for pid in (self.path("cpu") / "cgroup.procs").read_text().split()]

    def remove(self) -> None:
        """Remove the group; its processes must have been killed."""
        with contextlib.suppress(OSError):
            self.thaw()
        for controller in CONTROLLERS:
            wait_for(f"{self.name} to be empty", partial(self._removed, controller), 5)

    def _removed(self, controller: str) -> bool:
        try:
            self.path(controller).rmdir()
        except FileNotFoundError:
            return True
        except OSError:  # EBUSY while its last process is being reaped
            return False
        return True
