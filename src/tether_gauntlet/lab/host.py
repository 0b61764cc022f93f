"""One host of a laboratory: its namespace, its files, and what is run there.

Law: a host has its own name, network and mounts, its own `/etc/hosts` and `/etc/resolv.conf`, and
its own home and configuration directories. Its processor, clock and file system are the machine's.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from ctypes import CDLL, get_errno
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tether_gauntlet.lab.cgroups import CONTROLLERS, LabCgroup
from tether_gauntlet.lab.names import NETNS
from tether_gauntlet.lab.program import Program
from tether_gauntlet.lab.shell import LabError, call

TETHER = (sys.executable, "-m", "tether")

_CLONE_NEWNET = 0x40000000
_JOIN = 'while [ "$1" != -- ]; do echo $$ >"$1" || exit 125; shift; done; shift; exec "$@"'
_UNIGNORED = ("env", "--default-signal=HUP,INT,QUIT,PIPE")
"""What a background shell or nohup ignores, everything started from it would ignore as well."""


@dataclass
class Host:
    """A host; made by the laboratory."""

    name: str
    address: str
    namespace: str
    directory: Path
    holder: int
    """The pid of the process that keeps the host's namespaces."""
    programs: list[Program] = field(default_factory=list)
    disks: set[Path] = field(default_factory=set)
    """Directories that are disks of their own, small enough to be filled."""
    variables: dict[str, str] = field(default_factory=dict)
    """More for the environment of every program that is started there from now on."""

    # -- its files ---------------------------------------------------------------------

    @property
    def home(self) -> Path:
        return self.directory / "home"

    @property
    def hosts_file(self) -> Path:
        """What the host sees as `/etc/hosts`. Write into it, never replace it: it is bind-mounted."""
        return self.directory / "hosts"

    @property
    def resolv_conf(self) -> Path:
        """What the host sees as `/etc/resolv.conf`."""
        return self.directory / "resolv.conf"

    def environment(self) -> dict[str, str]:
        """The environment of its programs; nothing of a Tether outside the laboratory."""
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("TETHER", "SSH_", "XDG_")) and "proxy" not in key.lower()
        }
        return kept | {
            "HOME": str(self.home),
            "TETHER_CONFIG_DIR": str(self.directory / "tether"),
            "TETHER_INSECURE_HTTP": "1",  # the laboratory's networks are nobody else's
            "PATH": f"{Path(sys.executable).parent}:{kept.get('PATH', os.defpath)}",
            **self.variables,
        }

    def small_disk(self, directory: Path, *, size: int) -> Path:
        """Make this directory a disk of so many bytes, as this host sees it."""
        directory.mkdir(parents=True, exist_ok=True)
        self.run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory), check=True)
        self.disks.add(directory)
        return directory

    # -- programs ----------------------------------------------------------------------

    def start(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cgroup: LabCgroup | None = None,
        terminal: bool = False,
    ) -> Program:
        """Start a process there.

        Args:
            name: its output goes to `NAME.out` and `NAME.log` in the host's directory, appended.
            argv: the program and its arguments.
            env: more for its environment.
            cgroup: it and its children belong to this group.
            terminal: it gets a terminal of its own, of which it is the session's leader.
        """
        program = Program(
            name,
            self._inside(argv, cgroup, terminal),
            log=self.directory / f"{name}.log",
            env=self.environment() | dict(env or {}),
            terminal=terminal,
        )
        self.programs.append(program)
        return program

    def run(
        self,
        *argv: str,
        check: bool = False,
        seconds: float = 60.0,
        given: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command there to its end.

        Raises:
            LabError: it did not end in time, or failed (and `check`).
        """
        process = subprocess.Popen(
            self._inside(argv, None, False),
            stdin=subprocess.DEVNULL if given is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment() | dict(env or {}),
            start_new_session=True,
        )
        shown = " ".join(argv)
        try:
            out, err = process.communicate(given, seconds)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            out, err = process.communicate()
            raise LabError(
                f"{self.name}: {shown}: not done after {seconds:g} s\n{out}{err}"
            ) from None
        if check and process.returncode != 0:
            raise LabError(f"{self.name}: {shown}: exit code {process.returncode}\n{out}{err}")
        return subprocess.CompletedProcess(list(argv), process.returncode, out, err)

    def tether(
        self, *arguments: str, check: bool = True, **more: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a `tether` command there."""
        return self.run(*TETHER, *arguments, check=check, **more)

    def ip(self, *arguments: str) -> str:
        """Run `ip` on its network."""
        return call(["ip", "-n", self.namespace, *arguments])

    def tool(self, *argv: str, given: str = "", check: bool = True) -> str:
        """Run a network tool (nft, tc, ss, conntrack, sysctl) on its network."""
        inside = ("nsenter", f"--net={NETNS / self.namespace}", "--", *argv)
        return call(inside, given=given, check=check)

    def _inside(self, argv: Sequence[str], cgroup: LabCgroup | None, terminal: bool) -> list[str]:
        words: list[str] = []
        if cgroup is not None:
            groups = [str(cgroup.path(c) / "cgroup.procs") for c in CONTROLLERS]
            words += ["sh", "-c", _JOIN, "sh", *groups, "--"]
        words += [*_UNIGNORED, "nsenter", f"--target={self.holder}", "--net", "--mount", "--uts"]
        words += [f"--wdns={self.home}", "--"]
        return [*words, *(("setsid", "--ctty") if terminal else ()), *argv]

    # -- sockets of this very process --------------------------------------------------

    def open_socket(self, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """A socket of the calling process that belongs to this host's network."""
        made: list[socket.socket | OSError] = []

        def enter() -> None:  # a namespace is a thread's; this thread ends in it
            try:
                descriptor = os.open(NETNS / self.namespace, os.O_RDONLY)
                try:
                    if CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET) != 0:
                        raise OSError(get_errno(), "setns")
                    made.append(socket.socket(socket.AF_INET, kind))
                finally:
                    os.close(descriptor)
            except OSError as wrong:
                made.append(wrong)

        thread = threading.Thread(target=enter, name=f"enter-{self.name}")
        thread.start()
        thread.join()
        (result,) = made
        if isinstance(result, OSError):
            raise LabError(f"cannot enter the network of {self.name}: {result}")
        return result

    def listen(self, port: int = 0) -> socket.socket:
        """A listening socket of the calling process on this host's network."""
        sock = self.open_socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("0.0.0.0", port))
        sock.listen(16)
        return sock

    def connect(self, address: str, port: int, seconds: float = 5.0) -> socket.socket:
        """A connection of the calling process from this host's network."""
        sock = self.open_socket()
        sock.settimeout(seconds)
        try:
            sock.connect((address, port))
        except OSError:
            sock.close()
            raise
        return sock

    def get_json(
        self,
        port: int,
        path: str,
        *,
        token: str = "",
        address: str = "127.0.0.1",
        seconds: float = 10.0,
    ) -> Any:
        """The decoded JSON of a GET from an HTTP server that this host reaches.

        Raises:
            LabError: the answer is not a 200.
        """
        connection = http.client.HTTPConnection(address, port)
        connection.sock = self.connect(address, port, seconds)
        try:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise LabError(f"GET {path} was answered {answer.status}: {body[:300]!r}")
        return json.loads(body)
