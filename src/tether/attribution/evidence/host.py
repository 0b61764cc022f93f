"""What happened to a machine, and to our process on it.

Law: see `evidence`. `party` is whose machine it is: the observer's own. A collector hands these in with
an end only where they lie within that connection's last minute or its silence, by its own clocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tether.attribution.evidence.fact import Fact
from tether.attribution.vocabulary import OomVictim, Party, Resource


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspended(Fact):
    """The machine slept for `gap_s` seconds: its boot time went on, its monotonic clock did not."""

    kind: ClassVar[str] = "suspended"
    party: Party
    gap_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopStalled(Fact):
    """Our event loop was away for `gap_s` seconds while the machine was awake.

    Of those its thread used a CPU for `cpu_s`, waited for one for `waited_s`, and its group was
    throttled for `throttled_s` (None where the kernel does not tell).
    """

    kind: ClassVar[str] = "loop_stalled"
    party: Party
    gap_s: float
    cpu_s: float | None = None
    waited_s: float | None = None
    throttled_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockStepped(Fact):
    """The wall clock was set, by `delta_s` seconds."""

    kind: ClassVar[str] = "clock_stepped"
    party: Party
    delta_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pressure(Fact):
    """Tasks stood still for want of `resource` in `full_avg10` per cent of ten seconds (PSI)."""

    kind: ClassVar[str] = "pressure"
    party: Party
    resource: Resource
    full_avg10: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OomKills(Fact):
    """The kernel killed `count` processes of `scope` for want of memory; `victim` is whose they were."""

    kind: ClassVar[str] = "oom_kills"
    party: Party
    count: int
    victim: OomVictim
    scope: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhausted(Fact):
    """There was no more of `resource`: ENOSPC, EMFILE, EAGAIN of fork. `where` is a path or a limit."""

    kind: ClassVar[str] = "exhausted"
    party: Party
    resource: Resource
    where: str = ""
