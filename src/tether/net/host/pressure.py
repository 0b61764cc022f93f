"""Pressure stall information: how much of the last ten seconds was lost waiting for a resource.

Law: reads only. Of our own control group where there is one below the root, else of the machine; None
where the kernel does not tell. `some` is the share in which somebody waited, `full` that in which
everybody did (percent; Documentation/accounting/psi.rst).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tether.net.host.cgroup import PROC

_AVG10 = re.compile(rb"^(some|full) avg10=([0-9.]+)", re.M)


@dataclass(frozen=True, slots=True)
class PressureReading:
    """Percent of the last ten seconds."""

    cpu_some: float | None = None
    cpu_full: float | None = None
    memory_some: float | None = None
    memory_full: float | None = None
    io_full: float | None = None


class PressureReader:
    """Where to read it; `unified` is our directory in the v2 hierarchy of control groups."""

    def __init__(self, unified: Path | None, proc: Path = PROC) -> None:
        own = unified if unified is not None and (unified / "cgroup.type").exists() else None
        self._cpu, self._memory, self._io = (
            own / f"{name}.pressure"
            if own is not None and (own / f"{name}.pressure").exists()
            else proc / "pressure" / name
            for name in ("cpu", "memory", "io")
        )

    def read(self) -> PressureReading:
        """All of it, now."""
        cpu, memory = _averages(self._cpu), _averages(self._memory)
        return PressureReading(
            cpu_some=cpu.get("some"),
            cpu_full=cpu.get("full"),  # of a machine as a whole the kernel says 0
            memory_some=memory.get("some"),
            memory_full=memory.get("full"),
            io_full=_averages(self._io).get("full"),
        )


def _averages(path: Path) -> dict[str, float]:
    try:
        return {kind.decode(): float(share) for kind, share in _AVG10.findall(path.read_bytes())}
    except (OSError, ValueError):
        return {}
