"""The same command to Debian's sshd and to a workspace: the user sees the same, and as much is left."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.e2e.sshd import (
    Place,
    dropbear,
    has_sshd,
    openssh,
    outcome,
    putty,
    running_sshd,
)
from tests.support.e2e.stack import TETHER, Stack

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
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with running_sshd(tmp_path_factory.mktemp("sshd")) as place:
        yield place


@pytest.mark.parametrize("case", COMMANDS)
def test_a_command_ends_as_with_sshd(stack: Stack, sshd: Place, tmp_path: Path, case: str) -> None:
    command, input, lines = COMMANDS[case]
    expected = outcome(openssh(sshd, tmp_path), command, input=input, lines=lines)
    ours = outcome(stack.ssh_argv(stack.host), command, input=input, lines=lines, env=stack.env)
    assert ours == expected


# -- clients of other makes, which read no ssh_config ------------------------------------------------

FOREIGN = {
    "a code and both outputs": ("cat; echo err >&2; exit 5", b"in\n", 0),
    "the input is not read": ("exec <&-; echo a", b"x" * 3_000_000, 0),
    "a process stays behind": COMMANDS["a process stays behind"],
    "much output, then a code": COMMANDS["much output, then a code"],
}
PROGRAMS = {"plink": putty, "dbclient": dropbear}
PACKAGES = {"plink": "putty-tools", "psftp": "putty-tools", "pscp": "putty-tools"}


def needs(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(
            f"{program} is not installed: apt install {PACKAGES.get(program, 'dropbear-bin')}"
        )


def workspace(stack: Stack) -> Place:
    """The workspace, as whoever writes a client's command line by hand would reach it."""
    ssh = stack.root / "client" / "ssh"
    pinned = [line.split(" ", 1)[1] for line in (ssh / "known_hosts").read_text().splitlines()[1:]]
    config = f"TETHER_CONFIG_DIR={stack.env['TETHER_CONFIG_DIR']}"
    return Place(
        stack.host,
        ssh / "id_ed25519",
        next(line for line in pinned if line.startswith("ssh-ed25519 ")),
        proxy=("env", config, *TETHER, "ssh", "--stdio", "--", stack.host),
    )


@pytest.fixture
def places(stack: Stack, sshd: Place, tmp_path: Path) -> list[tuple[Place, Path]]:
    """The sshd and the workspace, each with a directory for a client's files."""
    directories = [tmp_path / "sshd", tmp_path / "tether"]
    for directory in directories:
        directory.mkdir()
    return list(zip((sshd, workspace(stack)), directories, strict=True))


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("case", FOREIGN)
def test_a_foreign_clients_command_ends_as_with_sshd(
    stack: Stack, places: list[tuple[Place, Path]], program: str, case: str
) -> None:
    needs(program)
    command, input, lines = FOREIGN[case]
    expected, ours = (
        outcome(
            PROGRAMS[program](place, directory),
            command,
            input=input,
            lines=lines,
            env={**stack.env, "HOME": str(directory)},  # where they keep files of their own
        )
        for place, directory in places
    )
    assert ours == expected


def test_psftp_and_pscp_copy_as_with_sshd(
    stack: Stack, places: list[tuple[Place, Path]], tmp_path: Path
) -> None:
    needs("psftp")
    needs("pscp")
    source = tmp_path / "source"
    source.write_bytes(b"0123456789abcdef" * 100_000)
    seen = []
    for place, directory in places:
        there = directory / "there"
        there.mkdir()
        batch = directory / "batch"
        batch.write_text(
            f"cd {there}\nput {source} a\nmv a b\nmkdir d\nget b {directory}/back\n"
            f"chmod 600 b\nls\nrm missing\n"
        )
        psftp = putty(place, directory, "psftp")
        done = stack.run(*psftp[:-1], "-b", str(batch), "-be", psftp[-1])
        *options, _ = putty(place, directory, "pscp")
        copied = [
            stack.run(*options, str(source), f"{place.host}:{there}/c").returncode,
            stack.run(*options, f"{place.host}:{there}/c", f"{directory}/c").returncode,
            stack.run(*options, f"{place.host}:{there}/none", f"{directory}/n").returncode,
        ]
        modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in there.iterdir()}
        whole = [(directory / name).read_bytes() == source.read_bytes() for name in ("back", "c")]
        seen.append((done.returncode, copied, modes, whole))
    expected, ours = seen
    assert ours == expected
    assert ours[3] == [True, True]
