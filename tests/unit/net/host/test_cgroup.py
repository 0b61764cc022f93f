"""What control groups tell: the real ones of this kernel (v1), and the files of both versions."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.support.deadline import DEADLINE_S
from tests.support.host.cgroups import control_group, inhabitant
from tether.net.host.cgroup import Cgroup, CgroupReading
from tether.net.host.kernel_log import oom_victims
from tether.net.host.pressure import PressureReader, PressureReading

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")

EAT = "import os; eaten = [os.urandom(1 << 20) for _ in range(200)]"


@linux
def test_an_out_of_memory_kill_is_counted_in_its_group_and_named_in_the_kernels_log() -> None:
    with control_group("memory", memory__limit_in_bytes=str(48 << 20)) as group:
        with inhabitant(group) as eater:
            counters, pid = Cgroup(eater.pid), eater.pid
            before = counters.read()
            assert eater.run(EAT) == ""
            assert eater.process.wait(DEADLINE_S) == -signal.SIGKILL
        assert (before.oom_kills, counters.oom_kills()) == (0, 1)
        assert before.memory_limit == 48 << 20
        assert before.memory is not None and 0 < before.memory <= 48 << 20
    victims = oom_victims()
    if victims is None:
        pytest.skip("the kernel's log may not be read here")
    assert pid in victims and os.getpid() not in victims


@linux
def test_a_kill_by_hand_is_not_counted() -> None:
    with control_group("memory") as group:
        with inhabitant(group) as victim:
            counters = Cgroup(victim.pid)
            assert victim.end() == -signal.SIGKILL
        assert counters.oom_kills() == 0


@linux
def test_a_group_that_is_made_again_has_another_identity() -> None:
    with control_group("memory") as group:
        with inhabitant(group) as one:
            first = Cgroup(one.pid).identity
        group.rmdir()
        group.mkdir()
        with inhabitant(group) as other:
            second = Cgroup(other.pid).identity
        assert first.startswith(f"{group}#") and second.startswith(f"{group}#")
        assert first != second


@linux
def test_a_group_that_is_held_back_from_the_cpu_is_counted_as_throttled() -> None:
    limits = {"cpu__cfs_period_us": "100000", "cpu__cfs_quota_us": "5000"}
    with control_group("cpu", **limits) as group, inhabitant(group) as busy:
        counters = Cgroup(busy.pid)
        busy.run("import time; until = time.process_time() + 0.02; said = 0")
        busy.run("while time.process_time() < until: pass")
        throttled = counters.read().throttled_s
        assert throttled is not None and throttled > 0.05


@linux
def test_a_refused_fork_is_counted() -> None:
    with control_group("pids", pids__max="1") as group, inhabitant(group) as one:
        counters = Cgroup(one.pid)
        before = counters.read()
        one.run("import os")
        assert "Resource temporarily unavailable" in one.run(
            "exec('try: os.fork()\\nexcept OSError as wrong: said = str(wrong)', globals())"
        )
        after = counters.read()
    assert (before.processes, before.process_limit, before.forks_refused) == (1, 1, 0)
    assert after.forks_refused == 1


def unified(proc: Path, where: Path) -> None:
    (proc / "self").mkdir(parents=True)
    (proc / "self/cgroup").write_text("0::/user.slice/agent.service\n")
    (proc / "self/mountinfo").write_text(
        f"31 23 0:28 / {where} rw shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
    )


def test_version_2_is_read_from_one_directory(tmp_path: Path) -> None:
    unified(tmp_path / "proc", tmp_path / "cg")
    leaf = tmp_path / "cg/user.slice/agent.service"
    leaf.mkdir(parents=True)
    (leaf / "memory.events").write_text(
        "low 0\nhigh 0\nmax 9\noom 3\noom_kill 2\noom_group_kill 0\n"
    )
    (leaf / "memory.current").write_text("1048576\n")
    (leaf / "memory.max").write_text("max\n")
    (leaf / "cpu.stat").write_text("usage_usec 9\nnr_throttled 4\nthrottled_usec 2500000\n")
    (leaf / "pids.current").write_text("7\n")
    (leaf / "pids.max").write_text("100\n")
    (leaf / "pids.events").write_text("max 1\n")
    assert Cgroup(proc=tmp_path / "proc").read() == CgroupReading(
        oom_kills=2,
        memory=1048576,
        memory_limit=None,
        throttled_s=2.5,
        processes=7,
        process_limit=100,
        forks_refused=1,
    )


def test_where_there_are_no_control_groups_nothing_is_told(tmp_path: Path) -> None:
    nothing = Cgroup(proc=tmp_path)
    assert (nothing.read(), nothing.identity, nothing.scope) == (CgroupReading(), "", "")


def test_a_group_outside_of_our_namespace_is_not_read(tmp_path: Path) -> None:
    unified(tmp_path, tmp_path / "cg")
    (tmp_path / "self/cgroup").write_text("0::/../other\n")
    assert Cgroup(proc=tmp_path).read() == CgroupReading()


def test_pressure_is_the_groups_own_where_it_has_one(tmp_path: Path) -> None:
    own, proc = tmp_path / "cg", tmp_path / "proc"
    (proc / "pressure").mkdir(parents=True)
    own.mkdir()
    for name in ("cpu", "memory", "io"):
        (proc / "pressure" / name).write_text("some avg10=1.00 avg60=0.00 avg300=0.00 total=9\n")
    (own / "cgroup.type").write_text("domain\n")
    (own / "memory.pressure").write_text(
        "some avg10=55.50 avg60=1.00 avg300=0.00 total=1\nfull avg10=44.25 avg60=0 avg300=0 total=1\n"
    )
    assert PressureReader(own, proc).read() == PressureReading(
        cpu_some=1.0, cpu_full=None, memory_some=55.5, memory_full=44.25, io_full=None
    )


def test_a_kernel_without_pressure_tells_none(tmp_path: Path) -> None:
    assert PressureReader(None, tmp_path).read() == PressureReading()
