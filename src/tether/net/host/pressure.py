"""Pressure stall information: how much of the last ten seconds was lost waiting for a resource.

Law: reads only: the pressure of our own control group if that is below the root, else that of the
machine. `some` is the share of time in which at least one task waited, `full` that in which all of them
did (Documentation/accounting/psi.rst). A value that the kernel does not tell is None.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tether.net.host.cgroup import PROC

_AVG10 = re.compile(rb"^(some|full) avg10=([0-9.]+)", re.M)


@dataclass(frozen=True, slots=True)
class PressureReading:
    """Shares of the last ten seconds, in percent."""

    cpu_some: float | None = None
    cpu_full: float | None = None
    memory_some: float | None = None
    memory_full: float | None = None
    io_full: float | None = None


class PressureReader:
    """Reads the pressure of our control group or machine."""

    def __init__(self, unified: Path | None, proc: Path = PROC) -> None:
        """`unified` is our directory in the v2 hierarchy of control groups."""
        own = unified if unified is not None and (unified / "cgroup.type").exists() else None
        self._cpu, self._memory, self._io = (
            own / f"{name}.pressure"
            if own is not None and (own / f"{name}.pressure").exists()
            else proc / "pressure" / name
            for name in ("cpu", "memory", "io")
        )

    def read(self) -> PressureReading:
        """All values now."""
        cpu, memory = _averages(self._cpu), _averages(self._memory)
        return PressureReading(
            cpu_some=cpu.get("some"),
            cpu_full=cpu.get("full"),  # always 0 for a whole machine
            memory_some=memory.get("some"),
            memory_full=memory.get("full"),
            io_full=_averages(self._io).get("full"),
        )


def _averages(path: Path) -> dict[str, float]:
    try:
        return {kind.decode(): float(share) for kind, share in _AVG10.findall(path.read_bytes())}
    except (OSError, ValueError):
        return {}
