"""An SSH connection of our own over a tunnel, for commands that are no `ssh`.

Law: as the stock `ssh` through us: this device's key and nothing else of the user's, the pinned host
key and no other, AES-GCM. The bridge at its other end is the one that serves `ssh`, so that its end is
recorded alike.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

import asyncssh

from tether.attribution.disconnect import CloseCell
from tether.client.bridge import Bridge
from tether.client.errors import Failure
from tether.client.host_keys import SUFFIX, read_pins
from tether.config import ClientFiles
from tether.net.clock import Clock
from tether.net.signals import Received
from tether.net.tasks import Tasks
from tether.net.tunnel.stream import TunnelStream

_CIPHERS = ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com"]


class SshClient:
    """Call `open`; `over` ends with the tunnel; `close` last."""

    def __init__(self, stream: TunnelStream, clock: Clock) -> None:
        self._ours, self._theirs = socket.socketpair()
        self._stdout = os.dup(self._ours.fileno())
        for descriptor in (self._ours.fileno(), self._stdout):
            os.set_blocking(descriptor, False)
        self._tasks = Tasks("ssh-client")
        self.bridge = Bridge(
            stream,
            stdin=self._ours.fileno(),
            stdout=self._stdout,
            clock=clock,
            on_result=lambda _: None,
            parent=os.getpid(),
        )
        self.over = self._tasks.spawn(self._run(), "bridge")
        self.connection: asyncssh.SSHClientConnection | None = None

    async def open(self, files: ClientFiles, workspace: str) -> asyncssh.SSHClientConnection:
        """Log in.

        Raises:
            Failure: it did not come to that.
        """
        pin = read_pins(files)[workspace]
        try:
            self.connection = await asyncssh.connect(
                sock=self._theirs,
                host=f"{workspace}{SUFFIX}",
                username="tether",
                known_hosts=([asyncssh.import_public_key(pin.host_key)], [], []),
                server_host_key_algs=["ssh-ed25519"],
                client_keys=[asyncssh.read_private_key(files.device_key)],
                client_certs=(),
                agent_path=None,
                config=None,
                preferred_auth="publickey",
                encryption_algs=_CIPHERS,
                compression_algs=["none"],
                login_timeout=30,
            )
        except (asyncssh.Error, OSError) as wrong:
            why = self.bridge.refusal or getattr(wrong, "reason", "") or str(wrong)
            raise Failure(f"the workspace did not let us in: {why}") from wrong
        return self.connection

    def signalled(self, received: Received) -> None:
        """This process was told to go: leave as `ssh` does."""
        self.bridge.signalled(received)
        self._leave()

    async def close(self) -> CloseCell:
        """Leave, and wait until the tunnel is over; why it ended."""
        self._leave()
        try:
            return await self.over
        finally:
            await self._tasks.cancel()
            self._theirs.close()

    def when_over(self, then: Callable[[], None]) -> None:
        """Call `then` when the tunnel is over, whoever ended it."""
        self.over.add_done_callback(lambda _: then())

    def _leave(self) -> None:
        if self.connection is not None:
            self.connection.close()
        else:
            self._theirs.close()

    async def _run(self) -> CloseCell:
        try:
            return await self.bridge.run()
        finally:
            os.close(self._stdout)
            self._ours.close()
