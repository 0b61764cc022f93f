"""Sleep, stalls and clock steps are told apart by the clocks that the kernel has for it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.host.cgroups import Inhabitant, control_group, inhabitant
from tests.support.loop import JumpingLoop
from tether.net.clock import (
    ClockReading,
    Look,
    ShiftedClocks,
    SystemClocks,
    clocks_of,
    thread_account,
)
from tether.net.host.cgroup import Cgroup
from tether.net.host.time import (
    ClockSet,
    Slept,
    Stalled,
    TimeEvent,
    TimeWatch,
    compare,
)

pytestmark = pytest.mark.virtual_time

BEFORE = Look(ClockReading(mono=100.0, boot=500.0, wall=1_800_000_000.0), 7.0, 3.0)


def after(
    mono: float, *, asleep: float = 0.0, step: float = 0.0, cpu: float = 0.0, waited: float = 0.0
) -> Look:
    clocks = BEFORE.clocks
    return Look(
        ClockReading(
            mono=clocks.mono + mono,
            boot=clocks.boot + mono + asleep,
            wall=clocks.wall + mono + asleep + step,
        ),
        7.0 + cpu,
        3.0 + waited,
    )


@pytest.mark.parametrize(
    ("look", "events"),
    [
        (after(1.0), []),
        (after(2.9), []),
        (after(1.0, asleep=90.0), [Slept(90.0)]),
        (after(6.0), [Stalled(5.0, 0.0, 0.0)]),
        (after(6.0, waited=4.5, cpu=0.25), [Stalled(5.0, 0.25, 4.5)]),
        (after(6.0, cpu=5.0), [Stalled(5.0, 5.0, 0.0)]),
        (after(1.0, step=3600.0), [ClockSet(3600.0)]),
        (after(1.0, step=-3600.0), [ClockSet(-3600.0)]),
        (after(1.0, step=0.5), []),
        (after(4.0, asleep=90.0, step=2.0), [Slept(90.0), Stalled(3.0, 0.0, 0.0), ClockSet(2.0)]),
    ],
    ids=[
        "in time",
        "somewhat late",
        "slept",
        "stopped",
        "starved",
        "busy",
        "set forward",
        "set back",
        "corrected",
        "slept, woke slowly, and its clock was set",
    ],
)
def test_two_looks_tell_what_time_did(look: Look, events: list[TimeEvent]) -> None:
    assert compare(BEFORE, look) == events


def test_without_an_account_of_its_own_a_stall_is_told_all_the_same() -> None:
    look = Look(after(6.0).clocks)
    assert compare(Look(BEFORE.clocks), look) == [Stalled(5.0, None, None)]


class HandClocks:
    """Clocks of the jumping loop; sleep and steps are added by hand."""

    def __init__(self) -> None:
        self.asleep = self.step = 0.0

    def read(self) -> ClockReading:
        mono = asyncio.get_running_loop().time()
        return ClockReading(mono, mono + self.asleep, mono + self.asleep + self.step)


async def test_a_watch_tells_each_event_once_and_then_watches_on() -> None:
    clocks, seen = HandClocks(), list[TimeEvent]()
    watch = TimeWatch(clocks, seen.append, account=lambda: None)
    watch.start()
    await asyncio.sleep(10)
    clocks.asleep += 60
    await asyncio.sleep(10)
    clocks.step -= 30
    await asyncio.sleep(10)
    watch.stop()
    assert seen == [Slept(60.0), ClockSet(-30.0)]


async def test_whoever_asks_hears_of_a_sleep_before_the_next_look() -> None:
    clocks, seen = HandClocks(), list[TimeEvent]()
    watch = TimeWatch(clocks, seen.append, account=lambda: None)
    watch.start()
    await asyncio.sleep(0.25)
    clocks.asleep += 60
    watch.check()
    assert seen == [Slept(60.0)]
    await asyncio.sleep(10)
    watch.stop()
    assert seen == [Slept(60.0)]


async def test_what_happened_since_an_earlier_look_is_told_at_the_start() -> None:
    clocks, seen = HandClocks(), list[TimeEvent]()
    watch = TimeWatch(clocks, seen.append, account=lambda: None)
    earlier = Look(clocks.read())
    clocks.asleep += 60
    await asyncio.sleep(1)
    watch.start(earlier)
    assert seen == [Slept(60.0)]
    await asyncio.sleep(10)
    watch.stop()
    assert seen == [Slept(60.0)]


async def test_a_loop_that_was_away_knows_for_how_long() -> None:
    seen = list[TimeEvent]()
    watch = TimeWatch(HandClocks(), seen.append, account=lambda: (0.0, 0.0))
    watch.start()
    await asyncio.sleep(0.5)
    loop = asyncio.get_running_loop()
    assert isinstance(loop, JumpingLoop)
    loop.jump(30.5)
    for _ in range(2):  # a due timer runs after what was ready before it
        await asyncio.sleep(0)
    lag_s = watch.lag_s
    watch.stop()
    assert (seen, lag_s) == ([Stalled(30.0, 0.0, 0.0)], 30.0)


async def test_a_watch_that_was_stopped_looks_no_more() -> None:
    clocks, seen = HandClocks(), list[TimeEvent]()
    watch = TimeWatch(clocks, seen.append)
    watch.start()
    watch.stop()
    clocks.asleep += 60
    watch.check()
    await asyncio.sleep(10)
    assert seen == []


# -- the real clocks ----------------------------------------------------------------------------


def test_a_file_shifts_the_clocks_as_if_the_machine_had_slept(tmp_path: Path) -> None:
    clocks = clocks_of({"TETHER_CLOCK_SHIFT_FILE": str(tmp_path / "shift")})
    assert isinstance(clocks, ShiftedClocks)
    before = Look(clocks.read())
    (tmp_path / "shift").write_text("90 90\n")
    (slept,) = compare(before, Look(clocks.read()))
    assert isinstance(slept, Slept) and abs(slept.for_s - 90) < 0.5


def test_without_a_file_the_clocks_are_the_kernels() -> None:
    assert isinstance(clocks_of({}), SystemClocks)
    assert compare(Look(SystemClocks().read()), Look(SystemClocks().read())) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="schedstat is Linux's")
def test_a_stopped_process_has_a_gap_but_no_sleep_and_no_account_of_it() -> None:
    program = (
        "import dataclasses, json\n"
        "from tether.net.clock import SystemClocks, thread_account\n"
        "for _ in range(2):\n"
        "    print(json.dumps([dataclasses.asdict(SystemClocks().read()), thread_account()]),"
        " flush=True)\n"
        "    input()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout and child.stdin
    try:
        first, account = json.loads(child.stdout.readline())
        os.kill(child.pid, signal.SIGSTOP)
        child.stdin.write("\n\n")
        child.stdin.flush()
        os.waitid(os.P_PID, child.pid, os.WSTOPPED)
        time.sleep(0.3)  # time itself is what is looked at
        os.kill(child.pid, signal.SIGCONT)
        second, account_after = json.loads(child.stdout.readline())
    finally:
        child.kill()
        child.wait()
    gap = second["mono"] - first["mono"]
    assert gap >= 0.3
    assert abs(second["boot"] - first["boot"] - gap) < 0.05
    assert account is not None and account_after is not None
    assert account_after[0] - account[0] < 0.2


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="schedstat is Linux's")
def test_a_thread_accounts_for_the_time_that_it_ran() -> None:
    before = thread_account()
    if before is None:
        pytest.skip("this kernel keeps no schedstat")
    while (now := thread_account()) is not None and now[0] - before[0] < 0.05:
        sum(range(1000))
    assert now is not None


LOOKS = (
    "import time; from tether.net.clock import SystemClocks, thread_account; "
    "look = lambda: (SystemClocks().read().mono, SystemClocks().read().boot, *thread_account())"
)


def between(one: Inhabitant) -> tuple[float, float, float, float]:
    """Seconds on the monotonic clock, on the boot clock, on a CPU, and waiting for one, since `a`."""
    told = one.run("b = look(); said = ' '.join(str(y - x) for x, y in zip(a, b))")
    mono, boot, cpu, waited = (float(word) for word in told.strip("'").split())
    return mono, boot, cpu, waited


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")
def test_a_frozen_process_neither_ran_nor_waited_and_its_machine_was_awake() -> None:
    with control_group("freezer") as group, inhabitant(group) as one:
        one.run(LOOKS)
        one.run("a = look()")
        (group / "freezer.state").write_text("FROZEN")
        try:
            time.sleep(0.3)  # time itself is what is looked at
        finally:
            (group / "freezer.state").write_text("THAWED")
        mono, boot, cpu, waited = between(one)
    assert mono >= 0.3 and abs(boot - mono) < 0.05
    assert cpu + waited < mono / 2


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")
def test_a_starved_process_waited_for_most_of_the_gap_and_its_group_was_throttled() -> None:
    with control_group("cpu", cpu__cfs_period_us="100000") as group, inhabitant(group) as one:
        one.run(LOOKS)
        counters = Cgroup(one.pid)
        (group / "cpu.cfs_quota_us").write_text("5000")
        before = counters.read().throttled_s
        one.run("a = look(); until = time.process_time() + 0.02")
        one.run("while time.process_time() < until: pass")
        mono, _, _, waited = between(one)
        after = counters.read().throttled_s
        (group / "cpu.cfs_quota_us").write_text("-1")
    assert before is not None and after is not None
    assert max(waited, after - before) >= mono / 2
