"""Where the kernel counts out-of-memory kills: cgroup v1, v2, both at once, and in a container."""

from __future__ import annotations

from pathlib import Path

import pytest

from tether.net.host.cgroup import Cgroup

V1 = "31 24 0:26 {root} {point} rw,nosuid shared:9 - cgroup cgroup rw,{controller}"
V2 = "32 24 0:27 {root} {point} rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"

OOM_CONTROL = "oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n"
EVENTS = "low 0\nhigh 7\nmax 31\noom 4\noom_kill {kills}\noom_group_kill 9\n"


def machine(tmp_path: Path, *, cgroup: list[str], mounts: list[str]) -> Path:
    """A /proc with the process 42 in it, and with us."""
    proc = tmp_path / "proc"
    for name, file, lines in (("42", "cgroup", cgroup), ("self", "mountinfo", mounts)):
        (proc / name).mkdir(parents=True)
        (proc / name / file).write_text("".join(f"{line}\n" for line in lines))
    return proc


def counting(path: Path, text: str, kills: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.format(kills=kills))


def v1(point: Path, root: str = "/", controller: str = "memory") -> str:
    return V1.format(root=root, point=point, controller=controller)


def v2(point: Path, root: str = "/") -> str:
    return V2.format(root=root, point=point)


def test_version_1_counts_in_its_oom_control(tmp_path: Path) -> None:
    memory, cpu = tmp_path / "memory", tmp_path / "cpu"
    proc = machine(
        tmp_path,
        cgroup=["7:cpu,cpuacct:/other", "5:memory:/jobs/ide", "0::/"],
        mounts=[
            "21 1 0:5 / /proc rw - proc proc rw",
            v1(cpu, controller="cpu,cpuacct"),
            v1(memory),
        ],
    )
    counting(memory / "jobs/ide/memory.oom_control", OOM_CONTROL, 3)
    group = Cgroup(42, proc)
    assert group.oom_kills() == 3
    counting(memory / "jobs/ide/memory.oom_control", OOM_CONTROL, 4)
    assert group.oom_kills() == 4


def test_version_2_counts_in_its_events(tmp_path: Path) -> None:
    point = tmp_path / "cgroup"
    proc = machine(tmp_path, cgroup=["0::/user.slice/ide.scope"], mounts=[v2(point)])
    counting(point / "user.slice/ide.scope/memory.events", EVENTS, 2)
    assert Cgroup(42, proc).oom_kills() == 2


def test_where_both_are_mounted_the_one_that_has_the_memory_counts(tmp_path: Path) -> None:
    memory, unified = tmp_path / "memory", tmp_path / "unified"
    proc = machine(tmp_path, cgroup=["5:memory:/a", "0::/b"], mounts=[v2(unified), v1(memory)])
    counting(memory / "a/memory.oom_control", OOM_CONTROL, 1)
    counting(unified / "b/memory.events", EVENTS, 5)
    assert Cgroup(42, proc).oom_kills() == 1


def test_a_container_sees_its_own_part_of_the_tree(tmp_path: Path) -> None:
    point = tmp_path / "cgroup"
    proc = machine(tmp_path, cgroup=["0::/docker/abc/ide"], mounts=[v2(point, root="/docker/abc")])
    counting(point / "ide/memory.events", EVENTS, 6)
    assert Cgroup(42, proc).oom_kills() == 6


@pytest.mark.parametrize(
    ("cgroup", "text"),
    [
        (["0::/../../elsewhere"], EVENTS),  # outside of our namespace: another one's counter
        (["3:cpu:/a"], EVENTS),
        (["0::/a"], "low 0\n"),
        (["0::/a"], "oom_kill"),
    ],
)
def test_what_cannot_be_told_is_not_guessed(tmp_path: Path, cgroup: list[str], text: str) -> None:
    point = tmp_path / "cgroup"
    proc = machine(tmp_path, cgroup=cgroup, mounts=[v2(point)])
    for folder in ("a", "elsewhere"):
        counting(point / folder / "memory.events", text, 1)
    assert Cgroup(42, proc).oom_kills() is None


def test_a_process_that_is_gone_has_no_counter(tmp_path: Path) -> None:
    assert Cgroup(42, tmp_path).oom_kills() is None
