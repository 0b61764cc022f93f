"""ssh-copy-id is known by the command line of whoever started ssh."""

from __future__ import annotations

from pathlib import Path

import pytest

from tether.cli.ssh.copied_key import asks_for_its_key


def machine(proc: Path, command_line: bytes) -> Path:
    """A `/proc` where process 20, an ssh, was started by process 10."""
    for pid, stat in ((10, b"10 (sh) S 1 10"), (20, b"20 (a) ssh) S 10 10")):
        (proc / str(pid)).mkdir(parents=True)
        (proc / str(pid) / "stat").write_bytes(stat)
    (proc / "10" / "cmdline").write_bytes(command_line)
    return proc


@pytest.mark.parametrize(
    ("command_line", "expected"),
    [
        (b"/bin/sh\0/usr/bin/ssh-copy-id\0-i\0key\0dev.tether\0", True),
        (b"ssh-copy-id\0dev.tether\0", True),
        (b"bash\0", False),
        (b"man\0-l\0-k\0ssh-copy-id\0", False),
        (b"", False),
    ],
)
def test_it_is_known_by_its_command_line(
    tmp_path: Path, command_line: bytes, expected: bool
) -> None:
    assert asks_for_its_key(20, machine(tmp_path, command_line)) is expected


def test_where_the_system_does_not_tell_it_is_not(tmp_path: Path) -> None:
    assert not asks_for_its_key(20, tmp_path)
