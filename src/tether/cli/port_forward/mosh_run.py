"""A run of `tether mosh`: mosh, whose datagrams go through the tunnel.

Law: mosh's own script logs in with `ssh` and then sends UDP to the host that it has resolved; a
workspace has no name and no address for that. So its two halves are started here: `mosh-server` in the
workspace, on loopback, over an SSH connection of ours, and `mosh-client` on this machine, which talks to
a forwarded UDP port. The connection survives what carries it, and ends with the client.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence

import asyncssh

from tether.cli.port_forward.forwarding import Traffic, UdpForward
from tether.cli.port_forward.specs import LOOPBACK, ForwardSpec
from tether.client.connection import ClientConnection
from tether.client.errors import Failure
from tether.client.host_keys import trust_grant
from tether.client.report.end_report import Seen
from tether.client.ssh_client import SshClient
from tether.net.clock import SystemClock
from tether.net.signals import Received, SignalWatcher
from tether.net.tasks import Tasks

NOT_FOUND = 127
"""A shell's exit code for a program that there is none of."""

_CONNECT = re.compile(r"^MOSH CONNECT (\d{1,5}) (\S+)\s*$", re.MULTILINE)
_LOCALE = re.compile(r"(LANG|LANGUAGE|LC_[A-Z]+)\Z")


class MoshSession:
    """One run of `tether mosh`. Call `run` once."""

    def __init__(self, workspace: str, env: Mapping[str, str]) -> None:
        self._workspace = workspace
        self._env = env
        self._tasks = Tasks("mosh")
        self._client = 0  # the process of mosh-client, while it runs
        self._connection = ClientConnection(
            workspace,
            env,
            clock=SystemClock(),
            on_grant=lambda files, grant: trust_grant(files, workspace, grant),
        )
        self._asked_to_stop = asyncio.Event()

    async def run(self, command: Sequence[str]) -> int:
        """Run `command`, or a login shell, to its end; the exit code.

        Raises:
            Failure: it did not come to that; the text says why.
        """
        program = shutil.which("mosh-client", path=self._env.get("PATH"))
        if program is None:
            raise Failure("mosh is not installed on this machine: `apt install mosh`, or its like")
        seen: Seen | None = None
        watcher = SignalWatcher(self._signalled)
        opening = self._tasks.spawn(self._connection.open(), "open")
        stopped = self._tasks.spawn(self._asked_to_stop.wait(), "stopped")
        try:
            await asyncio.wait([opening, stopped], return_when=asyncio.FIRST_COMPLETED)
            if not opening.done():
                return 0
            ssh = SshClient(opening.result(), SystemClock())
            seen = ssh.bridge.tunnel
            try:
                return await self._session(ssh, program, command)
            finally:
                await ssh.close()
        finally:
            watcher.stop()
            await self._tasks.cancel()
            await self._connection.close(seen)

    async def _session(self, ssh: SshClient, program: str, command: Sequence[str]) -> int:
        connection = await ssh.open(self._connection.files, self._workspace)
        colors = await asyncio.to_thread(colors_of, program)
        done = await connection.run(server_command(self._env, colors, command), encoding="utf-8")
        port, key = answer_of(done, self._workspace)
        forward = ForwardSpec("udp", LOOPBACK, 0, LOOPBACK, port)
        listener = UdpForward(connection, Traffic(forward), lambda _: None)
        await listener.start()
        try:
            self._client = self._started(program, listener.local_port, key)
            _, status = await asyncio.to_thread(os.waitpid, self._client, 0)
            self._client = 0
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        finally:
            await listener.close()

    def _started(self, program: str, port: int, key: str) -> int:
        """The process of a mosh-client that talks to a local port."""
        return os.posix_spawn(
            program,
            ["mosh-client", LOOPBACK, str(port)],
            {**self._env, "MOSH_KEY": key},
            setsigmask=(),  # ours are blocked
            setsigdef=(signal.SIGPIPE,),
        )

    def _signalled(self, received: Received) -> None:
        self._asked_to_stop.set()
        if self._client:
            os.kill(self._client, received.number)


def colors_of(program: str) -> str:
    """How many colours the user's terminal has, as mosh-client tells."""
    told = subprocess.run([program, "-c"], capture_output=True, text=True, check=False).stdout
    return told.strip() if told.strip().isdigit() else "256"


def server_command(env: Mapping[str, str], colors: str, command: Sequence[str]) -> str:
    """What starts mosh's half in the workspace, as mosh's own script does.

    Args:
        env: the user's environment; the server uses its language where the workspace has no UTF-8.
        colors: of the user's terminal.
        command: what to run; () for a login shell.
    """
    words = ["mosh-server", "new", "-i", LOOPBACK, "-c", colors]
    language = {name: value for name, value in env.items() if _LOCALE.match(name) and value}
    for name, value in (language or {"LANG": "C.UTF-8"}).items():
        words += ["-l", f"{name}={value}"]
    return shlex.join([*words, *(["--", *command] if command else [])])


def answer_of(done: asyncssh.SSHCompletedProcess, workspace: str) -> tuple[int, str]:
    """The UDP port that mosh-server listens on, and the session's key.

    Raises:
        Failure: it did not start; the text says why.
    """
    if (found := _CONNECT.search(str(done.stdout))) is not None:
        return int(found[1]), found[2]
    if done.exit_status == NOT_FOUND:
        raise Failure(
            f"mosh is not installed in workspace {workspace}: `apt install mosh` there, or its like"
        )
    said = " ".join(str(done.stderr).split())[:300]
    raise Failure(
        f"mosh-server did not start in workspace {workspace}: {said or 'it said nothing'}"
    )
