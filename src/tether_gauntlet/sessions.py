"""What people have open into a workspace: the stock `ssh`, and beside it one to a real `sshd`.

Law: they are used as a person at a keyboard uses them; what became of them is told in one line.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tether_gauntlet.lab.program import Program, children
from tether_gauntlet.lab.shell import LabError
from tether_gauntlet.lab.stack import LabStack


class SessionLost(LabError):
    """A session that should live does not; the text says how that was found."""


@dataclass
class LabSession:
    """A stock `ssh` into a workspace, and its twin to a real `sshd`."""

    ssh: Program
    twin: Program | None
    connection_id: str
    shell: bool = False
    """Whether it can be asked to echo something."""

    def type(self, text: str) -> None:
        """Type a line into both."""
        for program in (self.ssh, self.twin):
            if program is not None:
                with contextlib.suppress(OSError):
                    program.write(text.encode() + b"\n")

    def echoes(self, word: str, seconds: float = 20.0) -> None:
        """Type a command and wait until its output is here: the session lives.

        Raises:
            SessionLost: it does not.
        """
        try:
            self.ssh.write(f"echo {word[:1]}''{word[1:]}\n".encode())
            self.ssh.wait_output(word.encode(), seconds)
        except (LabError, OSError) as wrong:
            raise SessionLost(self.last_words(seconds)) from wrong

    def last_words(self, seconds: float) -> str:
        """What became of its `ssh`, in one line."""
        words = self.ssh.errors().strip().splitlines()
        said = f", saying: {words[-1].strip()}" if words else ""
        code = self.ssh.returncode
        how = f"did not answer for {seconds:g} s" if code is None else f"exited {code}"
        return f"{self.ssh.name} {how}{said}"

    def signal(self, number: int, *, everything: bool = True) -> None:
        """Send a signal to `ssh` and the twin; with `everything`, to their ProxyCommands as well."""
        for program in (self.ssh, self.twin):
            if program is None or program.returncode is not None:
                continue
            for pid in (*(children(program.pid) if everything else ()), program.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)


@dataclass
class SharedConnection:
    """An SSH connection without a session of its own, over which commands are run (`ssh -M`)."""

    stack: LabStack
    socket: Path

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run one command over it."""
        return self.stack.ssh("-S", str(self.socket), *command, check=False)

    def leave(self) -> None:
        """Disconnect in order."""
        self.stack.ssh("-S", str(self.socket), "-O", "exit")
