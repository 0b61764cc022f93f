"""Sleep, stalls and clock steps: what happened to this process between two looks at the clocks.

Law: `compare` is pure; `TimeWatch` looks once a second and hands on what `compare` finds. A process that
was stopped, starved or busy shows the same gap. The thread's own account tells them apart: how long it
used a CPU and how long it waited for one.

| boottime - monotonic | gap in monotonic | realtime - boottime | what it was |
| --- | --- | --- | --- |
| grows | none | same | the machine slept |
| same | yes, no CPU used or waited for | same | the process was stopped or frozen, or its machine was |
| same | yes, a CPU waited for | same | the process was starved |
| same | yes, a CPU used | same | the process was busy and did not look |
| same | none | changes | the clock was set |

A container's freezer and a stopped process leave boottime and monotonic in step (measured).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from tether.net.clock import Clocks, Look, look, thread_account

EVERY_S = 1.0
"""Seconds between two looks."""

ASLEEP_S = 1.0
"""Sleep shorter than this is ignored, for no connection notices it."""

LATE_S = 2.0
"""A look that is later than this is a stall; up to this it is an ordinary busy machine."""

STEP_S = 1.0
"""A change of the wall clock below this is an ordinary correction."""


@dataclass(frozen=True, slots=True)
class Slept:
    """The machine slept for `for_s` seconds, and is awake again."""

    for_s: float


@dataclass(frozen=True, slots=True)
class Stalled:
    """The loop did not look for `for_s` seconds longer than it should have."""

    for_s: float
    cpu_s: float | None
    """For how long of it its thread used a CPU; None where the kernel does not tell."""
    waited_s: float | None
    """For how long of it its thread waited for a CPU; None where the kernel does not tell."""


@dataclass(frozen=True, slots=True)
class ClockSet:
    """The wall clock was set: forward by `by_s` seconds, or back where that is negative."""

    by_s: float


TimeEvent = Slept | Stalled | ClockSet


def compare(before: Look, after: Look, every_s: float = EVERY_S) -> list[TimeEvent]:
    """What happened between two looks that should be `every_s` apart."""
    gap = after.clocks.mono - before.clocks.mono
    awake = after.clocks.boot - before.clocks.boot
    asleep, late = awake - gap, gap - every_s
    step = after.clocks.wall - before.clocks.wall - awake
    events: list[TimeEvent] = []
    if asleep >= ASLEEP_S:
        events.append(Slept(asleep))
    if late >= LATE_S:
        events.append(
            Stalled(late, _less(after.cpu_s, before.cpu_s), _less(after.waited_s, before.waited_s))
        )
    if abs(step) >= STEP_S:
        events.append(ClockSet(step))
    return events


class TimeWatch:
    """Looks at the clocks every `EVERY_S` seconds. Call `start` in the loop to be watched."""

    def __init__(
        self,
        clocks: Clocks,
        on_event: Callable[[TimeEvent], None],
        *,
        account: Callable[[], tuple[float, float] | None] = thread_account,
        every_s: float = EVERY_S,
    ) -> None:
        self._clocks = clocks
        self._on_event = on_event
        self._account = account
        self._every_s = every_s
        self._last: Look | None = None  # None until `start`
        self._due = 0.0  # when the next regular look should be, by the loop's time
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop
        self.lag_s = 0.0
        """How late the last regular look was."""

    def start(self, since: Look | None = None) -> None:
        """Begin to watch.

        Args:
            since: a look of one interval ago; what happened since then is told at once.
        """
        self._loop = asyncio.get_running_loop()
        self._last = self._look() if since is None else since
        if since is None:
            self._arm()
        else:
            self._tell(0.0)

    def stop(self) -> None:
        """Watch no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def check(self) -> None:
        """Look now: call it before concluding anything from a silence, which may be this process's
        own."""
        if self._timer is None or self._last is None:
            return
        self._timer.cancel()
        self._tell(max(0.0, self._due - self._loop.time()))

    def _tick(self) -> None:
        self.lag_s = max(0.0, self._loop.time() - self._due)
        self._tell(0.0)

    def _tell(self, early_s: float) -> None:
        before, after = self._last, self._look()
        assert before is not None, "started"
        self._last = after
        self._arm()
        for event in compare(before, after, self._every_s - early_s):
            self._on_event(event)

    def _arm(self) -> None:
        self._due = self._loop.time() + self._every_s
        self._timer = self._loop.call_at(self._due, self._tick)

    def _look(self) -> Look:
        return look(self._clocks, self._account)


def _less(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before
