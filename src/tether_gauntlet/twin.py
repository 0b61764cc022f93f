"""A real `sshd` on an agent's host, through the same faults: what everybody has today.

Law: it gets a fair chance, with keepalives on and its log at INFO. Its keys and files are its own.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tether_gauntlet.lab.host import Host
from tether_gauntlet.lab.program import Program

PORT = 2222

_CONFIG = """Port {port}
HostKey {directory}/host_key
AuthorizedKeysFile {directory}/user_key.pub
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication no
PidFile none
LogLevel INFO
ClientAliveInterval 5
ClientAliveCountMax 3
"""


@dataclass
class Sshd:
    """The server, and how to reach it."""

    program: Program
    directory: Path
    address: str
    _seen: int = 0

    @classmethod
    def start(cls, host: Host) -> Sshd:
        """Start it and wait until it listens."""
        directory = host.directory / "sshd"
        directory.mkdir()
        for name in ("host_key", "user_key"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name)],
                check=True,
            )
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd insists on this very folder
        config = directory / "config"
        config.write_text(_CONFIG.format(port=PORT, directory=directory))
        binary = shutil.which("sshd") or "/usr/sbin/sshd"
        program = host.start("sshd-log", [binary, "-D", "-e", "-f", str(config)])
        program.wait("sshd to listen", lambda: "Server listening" in program.errors() or None, 10.0)
        return cls(program, directory, host.address)

    def ssh(self, *command: str) -> list[str]:
        """The stock `ssh` to it, from wherever its host can be reached."""
        options = {
            "IdentityFile": str(self.directory / "user_key"),
            "StrictHostKeyChecking": "no",
            "UserKnownHostsFile": "/dev/null",
            "BatchMode": "yes",
            "LogLevel": "ERROR",
            "Port": str(PORT),
            "User": "root",
        }
        pairs = [f"-o{name}={value}" for name, value in options.items()]
        return ["ssh", "-F", "/dev/null", *pairs, self.address, *command]

    def mark(self) -> None:
        """Forget what the log says until now."""
        self._seen = len(self.program.errors())

    def said(self) -> list[str]:
        """The lines of its log since `mark`."""
        return self.program.errors()[self._seen :].splitlines()
