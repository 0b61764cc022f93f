"""The one place that reads the real clocks. Everything else is handed a `Clock` or a `Clocks`.

Law: reads only. Two clocks of the kernel together show that a machine slept: CLOCK_BOOTTIME counts the
time asleep, CLOCK_MONOTONIC does not. Where a system has only one of them, `boot` is `mono`, and no
sleep is ever seen.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tether.protocol.timestamp import Timestamp

SHIFT_FILE_VARIABLE = "TETHER_CLOCK_SHIFT_FILE"
"""Names a file that shifts the clocks by which this process recognises sleep: see `ShiftedClocks`."""


class Clock(Protocol):
    """Where `Timestamp`s come from. Tests bring their own."""

    def now(self) -> Timestamp: ...


class SystemClock:
    """CLOCK_MONOTONIC for deadlines, CLOCK_REALTIME for people."""

    def now(self) -> Timestamp:
        return Timestamp(mono=time.monotonic(), wall=time.time())


@dataclass(frozen=True, slots=True)
class ClockReading:
    """The three clocks at one moment, in seconds. `mono` stands still while the machine sleeps."""

    mono: float
    boot: float
    wall: float


class Clocks(Protocol):
    """Where `ClockReading`s come from."""

    def read(self) -> ClockReading: ...


@dataclass(frozen=True, slots=True)
class Look:
    """The clocks, and the account of the thread that looks, in seconds."""

    clocks: ClockReading
    cpu_s: float | None = None
    waited_s: float | None = None


def thread_account(path: Path = Path("/proc/thread-self/schedstat")) -> tuple[float, float] | None:
    """Seconds that this thread has run, and has waited for a CPU; None where it is not told."""
    try:
        run, waited, _ = path.read_bytes().split()
        return int(run) / 1e9, int(waited) / 1e9
    except (OSError, ValueError):
        return None


def look(
    clocks: Clocks, account: Callable[[], tuple[float, float] | None] = thread_account
) -> Look:
    """Look at the clocks now, in the thread whose account is wanted."""
    told = account()
    cpu_s, waited_s = told if told is not None else (None, None)
    return Look(clocks.read(), cpu_s, waited_s)


class SystemClocks:
    """The kernel's clocks."""

    def __init__(self) -> None:
        # Darwin's CLOCK_MONOTONIC counts sleep, and Python's `monotonic` is the one that does not.
        fallback = getattr(time, "CLOCK_MONOTONIC", None) if sys.platform == "darwin" else None
        self._boot = getattr(time, "CLOCK_BOOTTIME", fallback)

    def read(self) -> ClockReading:
        mono = time.monotonic()
        boot = mono if self._boot is None else time.clock_gettime(self._boot)
        return ClockReading(mono=mono, boot=boot, wall=time.time())


class ShiftedClocks:
    """Clocks ahead of the kernel's by what a file says: `BOOT_S WALL_S`, two numbers of seconds.

    For laboratories: no machine can be put to sleep inside a network namespace, and no clock stepped
    there. The file is read at each look, and a missing one shifts nothing.
    """

    def __init__(self, clocks: Clocks, path: Path) -> None:
        self._clocks = clocks
        self._path = path

    def read(self) -> ClockReading:
        reading = self._clocks.read()
        try:
            boot, wall = (float(word) for word in self._path.read_text().split())
        except (OSError, ValueError):
            return reading
        return ClockReading(reading.mono, reading.boot + boot, reading.wall + wall)


def clocks_of(env: Mapping[str, str]) -> Clocks:
    """The clocks that a program shall recognise sleep by. For composition roots."""
    shift = env.get(SHIFT_FILE_VARIABLE, "")
    return ShiftedClocks(SystemClocks(), Path(shift)) if shift else SystemClocks()
