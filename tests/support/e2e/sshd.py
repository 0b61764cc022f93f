"""Debian's sshd, for one test module: what it does with a command is what Tether's agent should do."""

from __future__ import annotations

import contextlib
import os
import pwd
import shlex
import shutil
import socket
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.deadline import DEADLINE_S
from tests.support.e2e.stack import free_port, wait_for

SSHD = "/usr/sbin/sshd"


@dataclass(frozen=True)
class Place:
    """Where a client of any make can be sent: an sshd, or a workspace."""

    host: str
    key: Path
    """The user's ed25519 private key, in OpenSSH's form."""
    host_key: str
    """One OpenSSH line, without a comment."""
    port: int = 22
    proxy: tuple[str, ...] = ()
    """The program whose pipes lead there, for clients that read no ssh_config; () for TCP."""
    user: str = field(default_factory=lambda: pwd.getpwuid(os.geteuid()).pw_name)


@contextlib.contextmanager
def running_sshd(root: Path) -> Iterator[Place]:
    """One sshd on loopback."""
    root.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where root's sshd separates privileges
    for name in ("host", "user"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(root / name)], check=True
        )
    port = free_port()
    config = root / "sshd_config"
    config.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {root}/host\nPidFile none\n"
        f"AuthorizedKeysFile {root}/user.pub\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n"
        "AcceptEnv LANG LC_*\nSubsystem sftp internal-sftp\n"
    )
    known = (root / "host.pub").read_text()
    with (root / "sshd.log").open("wb") as log:
        server = subprocess.Popen([SSHD, "-D", "-e", "-f", str(config)], stderr=log)
    try:
        wait_for("sshd", lambda: listens(port))
        yield Place("127.0.0.1", root / "user", " ".join(known.split()[:2]), port)
    finally:
        server.terminate()
        server.wait(DEADLINE_S)


def openssh(place: Place, directory: Path) -> list[str]:
    """OpenSSH's client for a place, its host included; `directory` holds its files."""
    name = place.host if place.port == 22 else f"[{place.host}]:{place.port}"
    (directory / "known_hosts").write_text(f"{name} {place.host_key}\n")
    return [
        *("ssh", "-F", "none", "-p", str(place.port), "-i", str(place.key)),
        *("-o", "IdentitiesOnly=yes", "-o", f"UserKnownHostsFile={directory}/known_hosts"),
        *("-o", "BatchMode=yes", "-l", place.user, place.host),
    ]


def putty(place: Place, directory: Path, program: str = "plink") -> list[str]:
    """A client of PuTTY's for a place, its host included."""
    key = directory / "key.ppk"
    if not key.exists():
        subprocess.run(
            ["puttygen", str(place.key), "-o", str(key), "-O", "private"], check=True, timeout=60
        )
    argv = [program, "-batch", "-noagent", "-P", str(place.port), "-i", str(key)]
    argv += ["-hostkey", place.host_key.split()[1], "-l", place.user]
    if place.proxy:
        argv += ["-proxycmd", shlex.join(place.proxy)]
    return [*argv, place.host]


def dropbear(place: Place, directory: Path) -> list[str]:
    """dropbear's client for a place, its host included; `directory` is to be its HOME."""
    (directory / ".ssh").mkdir(exist_ok=True)
    (directory / ".ssh" / "known_hosts").write_text(f"{place.host} {place.host_key}\n")
    key = directory / "key.dropbear"
    if not key.exists():
        argv = ["dropbearconvert", "openssh", "dropbear", str(place.key), str(key)]
        subprocess.run(argv, check=True, capture_output=True, timeout=60)
    through = ["-J", shlex.join(place.proxy)] if place.proxy else ["-p", str(place.port)]
    return ["dbclient", "-i", str(key), "-T", *through, "-l", place.user, place.host]


def listens(port: int) -> bool:
    """Whether somebody listens on a loopback port."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@dataclass(frozen=True)
class Outcome:
    """What a user sees of one command."""

    code: int
    output: bytes
    errors: bytes
    left: int
    """Processes of the command that still run when ssh has ended."""


def outcome(
    ssh: list[str], command: str, *, input: bytes, lines: int, env: dict[str, str] | None = None
) -> Outcome:
    """Run `command` with `ssh` (its host included); it fails where ssh does not end.

    The reader of the output leaves after so many `lines`; 0 for never.
    """
    mark = f"CASE={uuid.uuid4().hex}"
    process = subprocess.Popen(
        [*ssh, f"export {mark}; {command}"],
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin and process.stdout and process.stderr
    try:
        with contextlib.suppress(BrokenPipeError):  # the command does not read it all
            process.stdin.write(input)
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        if lines:
            output = b"".join(process.stdout.readline() for _ in range(lines))
        else:
            output = process.stdout.read()
        process.stdout.close()
        errors = process.stderr.read()
        code = process.wait(DEADLINE_S)
    finally:
        process.kill()
        process.wait(DEADLINE_S)
    return Outcome(code, output, errors, len(marked(mark)))


def marked(mark: str) -> list[int]:
    """The processes that have `mark` in their environment."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark.encode() in environment.read_bytes():
                found.append(int(environment.parent.name))
    return found


def has_sshd() -> bool:
    """Whether this machine has Debian's sshd."""
    return shutil.which(SSHD) is not None
