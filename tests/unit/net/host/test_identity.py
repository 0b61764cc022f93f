"""Which boot and which container: compared, never guessed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tether.net.host.identity import HostIdentity, container_id, identify

ID = "0123456789abcdef" * 4
POD = "12345678-1234-1234-1234-123456789abc"
DOCKERS = f"9 8 0:1 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw - ext4 a b\n"
HERE = HostIdentity("boot-1", ID, "26")


@pytest.mark.parametrize(
    ("now", "rebooted", "another"),
    [
        (HERE, False, False),
        (HostIdentity("boot-2", ID, "31"), True, False),
        (HostIdentity("boot-1", "f" * 64, "9000"), False, True),
        (HostIdentity("boot-2", "f" * 64, "31"), True, True),
        (HostIdentity("boot-1", ID, "9000"), False, True),
        (HostIdentity("", "", ""), False, False),
        (HostIdentity("boot-1", "", ""), False, False),
    ],
    ids=[
        "the same",
        "a reboot",
        "another container",
        "another container on another machine",
        "the same container, started again",
        "nothing is told",
        "no container is told",
    ],
)
def test_two_identities_are_compared(now: HostIdentity, rebooted: bool, another: bool) -> None:
    assert (now.rebooted_since(HERE), now.another_container_than(HERE)) == (rebooted, another)


@pytest.mark.parametrize(
    ("groups", "mounts", "want"),
    [
        (f"0::/system.slice/docker-{ID}.scope\n", "", ID),
        (f"4:memory:/docker/{ID}\n", "", ID),
        ("0::/\n", DOCKERS, ID),
        (f"0::/kubepods/pod{POD}/x\n", "", POD),
        ("0::/user.slice/user-1000.slice\n", "", ""),
    ],
    ids=["docker, v2", "docker, v1", "docker with a group namespace", "a pod", "no container"],
)
def test_a_container_is_known_by_what_its_runtime_left(
    tmp_path: Path, groups: str, mounts: str, want: str
) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self/cgroup").write_text(groups)
    (tmp_path / "self/mountinfo").write_text(mounts)
    assert container_id(tmp_path, tmp_path / "root") == want


def test_a_system_without_proc_has_no_identity(tmp_path: Path) -> None:
    assert identify(tmp_path, tmp_path) == HostIdentity()
