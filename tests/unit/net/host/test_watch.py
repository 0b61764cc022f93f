"""What a machine did is handed to whatever ends then: in time, from its stream's point of view."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import (
    AsyncIterator,
    Mapping,
)
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.clock import EPOCH, LoopClock
from tests.support.host.netns import in_namespace, ip
from tests.support.loop import JumpingLoop
from tests.unit.net.host.test_time import HandClocks
from tether.attribution import evidence as ev
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import OomVictim, Party, Resource, Vantage
from tether.net.clock import SystemClock, SystemClocks
from tether.net.host.cgroup import Cgroup
from tether.net.host.time import Slept, TimeEvent
from tether.net.host.vital_signs import VitalSigns
from tether.net.host.watch import HostWatch
from tether.protocol.timestamp import Timestamp

pytestmark = pytest.mark.virtual_time

AGENT, ME = Vantage.AGENT, Party.AGENT


class Machine:
    """The files of a machine in version 2 of control groups, to be written by hand."""

    def __init__(self, root: Path) -> None:
        self.proc, self.leaf = root / "proc", root / "cg/agent.service"
        (self.proc / "self").mkdir(parents=True)
        (self.proc / "pressure").mkdir()
        self.leaf.mkdir(parents=True)
        (self.proc / "self/cgroup").write_text("0::/agent.service\n")
        (self.proc / "self/mountinfo").write_text(
            f"31 23 0:28 / {root}/cg rw - cgroup2 cgroup2 rw\n"
        )
        self.oom_kills(0)
        self.throttled(0.0)

    def oom_kills(self, count: int) -> None:
        (self.leaf / "memory.events").write_text(f"oom 9\noom_kill {count}\n")

    def throttled(self, seconds: float) -> None:
        (self.leaf / "cpu.stat").write_text(f"throttled_usec {round(seconds * 1e6)}\n")

    def memory_pressure(self, full: float) -> None:
        (self.proc / "pressure/memory").write_text(f"full avg10={full} avg60=0 avg300=0 total=0\n")

    def vitals(self) -> VitalSigns:
        return VitalSigns(None, group=Cgroup(proc=self.proc), proc=self.proc)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


class SteppedClock(LoopClock):
    """A clock whose wall time was set forward by some seconds."""

    def __init__(self, by_s: float) -> None:
        super().__init__()
        self._by_s = by_s

    def now(self) -> Timestamp:
        now = super().now()
        return replace(now, wall=now.wall + self._by_s)


@contextlib.asynccontextmanager
async def watching(
    machine: Machine, victims: Mapping[int, float] | None = None
) -> AsyncIterator[tuple[HostWatch, HandClocks]]:
    """A watch for ten seconds already; no network is watched, and the kernel's log names `victims`."""
    clocks = HandClocks()
    watch = HostWatch(
        ME,
        clock=LoopClock(),
        clocks=clocks,
        vitals=machine.vitals(),
        with_network=False,
        victims=lambda: victims,
    )
    watch.start()
    try:
        await asyncio.sleep(10)
        yield watch, clocks
    finally:
        watch.stop()


async def test_nothing_happened(machine: Machine) -> None:
    async with watching(machine) as (watch, _):
        await asyncio.sleep(100)
        assert watch.since(50.0) == []


async def test_a_sleep_is_told_to_what_ends_within_a_minute_and_not_to_what_ends_later(
    machine: Machine,
) -> None:
    async with watching(machine) as (watch, clocks):
        clocks.asleep += 90
        at_once = watch.since()
        await asyncio.sleep(55)
        assert watch.since() == at_once
        await asyncio.sleep(10)
        assert watch.since() == []
        assert watch.since(silence_s=65) == at_once, "it lies within the silence"
        assert at_once == [ev.Suspended(vantage=AGENT, at=EPOCH + 10, party=ME, gap_s=90.0)]


async def test_when_it_was_is_told_by_the_monotonic_clock_of_the_end(machine: Machine) -> None:
    """A wall clock that is set meanwhile puts no circumstance before the last byte, or after it."""
    async with watching(machine) as (watch, clocks):
        clocks.asleep += 90
        watch.time.check()
        await asyncio.sleep(20)
        watch._clock = SteppedClock(3600)
        assert watch.since() == [
            ev.Suspended(vantage=AGENT, at=EPOCH + 3600 + 10, party=ME, gap_s=90.0)
        ]


async def test_a_stall_comes_with_the_threads_account_and_that_of_its_group(
    machine: Machine,
) -> None:
    async with watching(machine) as (watch, _):
        loop = asyncio.get_running_loop()
        assert isinstance(loop, JumpingLoop)
        watch.time._account = lambda: (1.0, 2.0)
        watch.time.check()
        machine.throttled(38.0)
        watch.time._account = lambda: (1.5, 41.0)
        loop.jump(41.0)
        (stalled,) = watch.since()
    assert stalled == ev.LoopStalled(
        vantage=AGENT, at=EPOCH + 51, party=ME, gap_s=40.0, cpu_s=0.5, waited_s=39.0, throttled_s=38.0
    )  # fmt: skip


async def test_a_clock_that_is_set_is_told(machine: Machine) -> None:
    async with watching(machine) as (watch, clocks):
        clocks.step -= 3600
        assert watch.since() == [
            ev.ClockStepped(vantage=AGENT, at=EPOCH + 10, party=ME, delta_s=-3600.0)
        ]


@pytest.mark.parametrize(
    ("child_ends", "victim"),
    [("before", OomVictim.CHILD), ("after", OomVictim.CHILD), ("never", OomVictim.OTHER),
     ("long before", OomVictim.OTHER)],
)  # fmt: skip
async def test_a_kill_for_memory_is_a_childs_if_a_child_was_killed_then(
    machine: Machine, child_ends: str, victim: OomVictim
) -> None:
    async with watching(machine) as (watch, _):
        if child_ends == "long before":
            watch.killed_for_memory(7)
            await asyncio.sleep(30)
        if child_ends == "before":
            watch.killed_for_memory(7)
        machine.oom_kills(1)
        await asyncio.sleep(1.5)
        if child_ends == "after":
            watch.killed_for_memory(7)
        facts = watch.since()
    assert [(f.kind, f.count, f.victim, f.scope) for f in facts if isinstance(f, ev.OomKills)] == [
        ("oom_kills", 1, victim, str(machine.leaf))
    ]


@pytest.mark.parametrize(
    ("victims", "pid", "kills", "want"),
    [
        (None, 7, 1, [True, False]),
        (None, 7, 0, [False, False]),
        (None, None, 1, [True, False]),
        ({7: 10.0}, 7, 1, [True, True]),
        ({8: 10.0}, 7, 1, [False, False]),
        ({}, None, 1, [True, False]),
    ],
    ids=[
        "the counter rose: once",
        "the counter did not rise",
        "the counter rose for a child of it",
        "the log names it",
        "the log names another",
        "the log cannot name a child of it",
    ],
)
async def test_a_child_that_sigkill_ended_was_killed_for_memory(
    machine: Machine,
    victims: Mapping[int, float] | None,
    pid: int | None,
    kills: int,
    want: list[bool],
) -> None:
    answers: list[bool] = []

    async with watching(machine, victims) as (watch, _):
        machine.oom_kills(kills)
        answers.extend(watch.killed_for_memory(pid) for _ in range(2))

    assert answers == want


async def test_pressure_is_told_where_it_was_bad(machine: Machine) -> None:
    async with watching(machine) as (watch, _):
        machine.memory_pressure(5.0)
        await asyncio.sleep(2)
        assert watch.since() == []
        machine.memory_pressure(88.0)
        await asyncio.sleep(2)
        machine.memory_pressure(1.0)
        await asyncio.sleep(5)
        assert watch.since() == [
            ev.Pressure(
                vantage=AGENT, at=EPOCH + 14, party=ME, resource=Resource.MEMORY, full_avg10=88.0
            )
        ]


async def test_what_ran_out_is_told_once_for_as_long_as_it_lasts(machine: Machine) -> None:
    async with watching(machine) as (watch, _):
        assert watch._sampling is not None
        watch._sampling.cancel()
        watch._note_shortage(Resource.DISK, True, "/data")
        await asyncio.sleep(5)
        watch._note_shortage(Resource.DISK, True, "/data")
        lasts = ev.Exhausted(
            vantage=AGENT, at=EPOCH + 15, party=ME, resource=Resource.DISK, where="/data"
        )
        assert watch.since() == [lasts]
        watch._note_shortage(Resource.DISK, False, "/data")
        await asyncio.sleep(5)
        assert watch.since() == [lasts], "it was over five seconds ago"


def test_a_process_without_free_descriptors_is_seen_to_be_so(machine: Machine) -> None:
    resource = pytest.importorskip("resource")
    vitals = VitalSigns(None, group=Cgroup(proc=machine.proc))
    used = vitals.sample(0.0).descriptors
    if used is None:
        pytest.skip("descriptors are not counted here")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert not vitals.sample(0.0).out_of_descriptors
    held = [os.dup(0) for _ in range(8)]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (vitals.sample(0.0).descriptors, hard))
        assert vitals.sample(0.0).out_of_descriptors
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in held:
            os.close(descriptor)


async def test_whoever_must_act_is_told_of_a_sleep_at_once(machine: Machine) -> None:
    clocks, seen = HandClocks(), list[TimeEvent]()
    watch = HostWatch(ME, clock=LoopClock(), clocks=clocks, on_time=seen.append, with_network=False)
    watch.start()
    clocks.asleep += 5
    await asyncio.sleep(1)
    watch.stop()
    assert seen == [Slept(5.0)]


# -- the network, from a stream's point of view ---------------------------------------------------

LIKE_A_LAPTOP: tuple[tuple[str, ...], ...] = (
    ("link", "add", "wlan0", "type", "veth", "peer", "name", "router"),
    ("link", "set", "router", "up"),
    ("link", "set", "wlan0", "up"),
    ("addr", "add", "10.9.0.1/24", "dev", "wlan0"),
    ("route", "add", "default", "via", "10.9.0.2"),
    ("link", "add", "docker0", "type", "veth", "peer", "name", "container"),
)


def network_told(*acts: tuple[str, ...], until: str = "lo") -> list[Evidence]:
    """What is told to a stream from 10.9.0.1 once the link `until` has changed."""

    async def main() -> list[Evidence]:
        for act in LIKE_A_LAPTOP:
            ip(*act)
        told = asyncio.Event()
        watch = HostWatch(
            Party.CLIENT,
            clock=SystemClock(),
            clocks=SystemClocks(),
            on_network=lambda change: told.set() if getattr(change, "interface", "") == until else None,
        )  # fmt: skip
        watch.start()
        async with asyncio.timeout(5):
            while watch.network.has("10.9.0.1") is None:
                await asyncio.sleep(0)
            for act in acts:
                ip(*act)
            ip("link", "set", "lo", "up")
            await told.wait()
            await asyncio.sleep(0)
        facts = list(watch.since(local_address="10.9.0.1"))
        watch.stop()
        return facts

    return in_namespace(main)


def brief(facts: list[Evidence]) -> list[tuple[object, ...]]:
    return [
        (f.kind, *(getattr(f, n) for n in ("removed", "added", "ours", "interface", "tunnel", "up")
                   if hasattr(f, n)))
        for f in facts
    ]  # fmt: skip


def test_a_roaming_laptop_tells_that_its_streams_address_is_another_one_now() -> None:
    roam = (
        ("addr", "del", "10.9.0.1/24", "dev", "wlan0"),
        ("addr", "add", "10.8.0.7/24", "dev", "wlan0"),
    )
    assert brief(network_told(*roam)) == [("address_changed", "10.9.0.1", "10.8.0.7", True)]


def test_an_address_of_somebody_else_is_not_the_streams() -> None:
    roam = (
        ("addr", "add", "10.8.0.7/24", "dev", "wlan0"),
        ("addr", "del", "10.8.0.7/24", "dev", "wlan0"),
    )
    assert brief(network_told(*roam)) == [("address_changed", "10.8.0.7", "", False)]


def test_the_streams_own_link_that_loses_its_carrier_is_told() -> None:
    assert brief(network_told(("link", "set", "router", "down"), until="wlan0")) == [
        ("link_changed", "wlan0", False)
    ]


def test_a_containers_link_that_comes_and_goes_is_not() -> None:
    acts = (
        ("link", "set", "container", "up"),
        ("link", "set", "docker0", "up"),
        ("link", "del", "docker0"),
    )
    assert brief(network_told(*acts)) == []


def test_a_vpn_that_takes_the_default_route_is_told_as_a_tunnel() -> None:
    acts = (
        ("tuntap", "add", "vpn", "mode", "tun"),
        ("link", "set", "vpn", "up"),
        ("route", "add", "0.0.0.0/1", "dev", "vpn"),
        ("route", "add", "128.0.0.0/1", "dev", "vpn"),
    )
    assert brief(network_told(*acts)) == [("route_changed", "vpn", True)]


def test_a_default_route_that_is_gone_leads_nowhere() -> None:
    assert brief(network_told(("route", "del", "default"))) == [("route_changed", "", False)]
