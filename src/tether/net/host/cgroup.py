"""A process's control groups (v1 and v2): its limits of memory, CPU and processes, and their effects.

Law: reads only, from the group that the process was in when this was made; a value that the kernel does
not tell is None. The counters name no process: `oom_kill` counts every process of the group, and in v2
those of the groups below it. Reading everything takes 150 µs (measured).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
_NO_LIMIT = 1 << 60
"""Numbers from this on are v1's "no limit", which is the largest multiple of a page."""


@dataclass(frozen=True, slots=True)
class CgroupReading:
    """The values at one moment. Counters count since the group was made."""

    oom_kills: int | None = None
    """A counter of processes that were killed because the group's memory ran out."""
    memory: int | None = None
    """Bytes in use."""
    memory_limit: int | None = None
    throttled_s: float | None = None
    """A counter of seconds for which the group's CPU limit kept it from running."""
    processes: int | None = None
    process_limit: int | None = None
    forks_refused: int | None = None
    """A counter of processes that the limit kept from starting."""


class Cgroup:
    """The control groups of one process."""

    def __init__(self, pid: int | None = None, proc: Path = PROC) -> None:
        """`pid` None is this process."""
        who = "self" if pid is None else str(pid)
        found = _directories(who, proc)
        self.unified = found.get("")
        """The directory in the v2 hierarchy; None where there is none."""
        self._memory, self._memory_v2 = _either(found, "memory", self.unified, "memory.events")
        self._cpu, self._cpu_v2 = _either(found, "cpu", self.unified, "cpu.stat")
        self._pids, _ = _either(found, "pids", self.unified, "pids.events")

    @property
    def scope(self) -> str:
        """The memory group's directory, for people; "" where there is none."""
        return "" if self._memory is None else str(self._memory)

    @property
    def identity(self) -> str:
        """Which memory group this is: its path and its inode, so that a later group is not taken for
        it."""
        if self._memory is None:
            return ""
        try:
            return f"{self._memory}#{self._memory.stat().st_ino}"
        except OSError:
            return ""

    def oom_kills(self) -> int | None:
        """How many processes of the group were killed because its memory ran out."""
        if self._memory is None:
            return None
        name = "memory.events" if self._memory_v2 else "memory.oom_control"
        return keyed(self._memory / name).get("oom_kill")

    def read(self) -> CgroupReading:
        """All values now."""
        usage, limit = (
            ("memory.current", "memory.max")
            if self._memory_v2
            else ("memory.usage_in_bytes", "memory.limit_in_bytes")
        )
        pids = self._pids
        return CgroupReading(
            oom_kills=self.oom_kills(),
            memory=_number(self._memory, usage),
            memory_limit=_number(self._memory, limit),
            throttled_s=self._throttled(),
            processes=_number(pids, "pids.current"),
            process_limit=_number(pids, "pids.max"),
            forks_refused=None if pids is None else keyed(pids / "pids.events").get("max"),
        )

    def _throttled(self) -> float | None:
        if self._cpu is None:
            return None
        stat = keyed(self._cpu / "cpu.stat")
        if self._cpu_v2:
            told, unit = stat.get("throttled_usec"), 1e-6
        else:
            told, unit = stat.get("throttled_time"), 1e-9
        return None if told is None else told * unit


def oom_kills_of(identity: str) -> int | None:
    """`Cgroup.oom_kills` of the group with this `Cgroup.identity`; None where that group is gone."""
    name, _, inode = identity.rpartition("#")
    directory = Path(name)
    try:
        if not name or str(directory.stat().st_ino) != inode:
            return None
    except OSError:
        return None
    for file in ("memory.events", "memory.oom_control"):
        if "oom_kill" in (told := keyed(directory / file)):
            return told["oom_kill"]
    return None


def keyed(path: Path) -> dict[str, int]:
    """The `key number` lines of a file; nothing where it cannot be read."""
    try:
        words = path.read_text().split()
    except OSError:
        return {}
    return {
        key: int(value)
        for key, value in zip(words[::2], words[1::2], strict=False)
        if value.isdecimal()
    }


def _number(directory: Path | None, name: str) -> int | None:
    if directory is None:
        return None
    try:
        word = (directory / name).read_text().strip()
    except OSError:
        return None
    return int(word) if word.isdecimal() and int(word) < _NO_LIMIT else None


def _either(
    found: dict[str, Path], controller: str, unified: Path | None, needs: str
) -> tuple[Path | None, bool]:
    """The directory of a controller, and whether it is one of v2."""
    if controller in found:
        return found[controller], False
    if unified is not None and (unified / needs).exists():
        return unified, True
    return None, False


def _directories(who: str, proc: Path) -> dict[str, Path]:
    """The directory of the process's group by controller; that of the v2 hierarchy is under ""."""
    try:
        memberships = (proc / who / "cgroup").read_text().splitlines()
        mounts = (proc / "self" / "mountinfo").read_text().splitlines()
    except OSError:
        return {}
    found = {}
    for line in memberships:
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            directory = _under(_mount(mounts, controller), path)
            if directory is not None:
                found[controller] = directory
    return found


def _mount(mounts: list[str], controller: str) -> tuple[str, str] | None:
    """Root and mount point of a controller's hierarchy, "" for that of v2 (proc(5), mountinfo)."""
    for fields, described in _mounts(mounts):
        if described[0] == "cgroup2" and not controller:
            return fields[3], fields[4]
        if described[0] == "cgroup" and controller and controller in described[2].split(","):
            return fields[3], fields[4]
    return None


def _mounts(lines: list[str]) -> Iterator[tuple[list[str], list[str]]]:
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, described = before.split(), after.split()
        if len(fields) >= 5 and len(described) >= 3:
            yield fields, described


def _under(mount: tuple[str, str] | None, path: str) -> Path | None:
    if mount is None or "/.." in path:  # the group is outside of our cgroup namespace
        return None
    root, point = mount
    inside = path.removeprefix(root.rstrip("/")) if root != "/" else path
    return Path(point) / inside.lstrip("/")
