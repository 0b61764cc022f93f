"""The same command to Debian's sshd and to a workspace: the user sees the same, and as much is left."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.e2e.sshd import has_sshd, outcome, running_sshd
from tests.support.e2e.stack import Stack

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not has_sshd(), reason="no sshd to compare with"),
]

COMMANDS = {
    "the output is read in part": ("yes", b"", 1),
    "the command goes on without its output": ("echo a; exec >&-; echo b >&2; exit 4", b"", 1),
    "the command hears of the lost output": (
        "trap '' PIPE; while echo a; do :; done 2>/dev/null; echo b >&2; exit 5",
        b"",
        1,
    ),
    "the input is read in part": ("head -c 1; exit 3", b"x" * 3_000_000, 0),
    "the input is not read": ("exec <&-; echo a", b"x" * 3_000_000, 0),
    "the command closes all": ("exec <&- >&- 2>&-; exit 6", b"", 0),
    "a process stays behind": ("(sleep 30 </dev/null >/dev/null 2>&1 &); echo a", b"", 0),
    "killed": ("kill -KILL $$", b"", 0),
    "much output, then a code": ("head -c 5000000 /dev/zero; exit 7", b"", 0),
}


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    with running_sshd(tmp_path_factory.mktemp("sshd")) as ssh:
        yield ssh


@pytest.mark.parametrize("case", COMMANDS)
def test_a_command_ends_as_with_sshd(stack: Stack, sshd: list[str], case: str) -> None:
    command, input, lines = COMMANDS[case]
    expected = outcome([*sshd, "127.0.0.1"], command, input=input, lines=lines)
    ours = outcome(stack.ssh_argv(stack.host), command, input=input, lines=lines, env=stack.env)
    assert ours == expected
