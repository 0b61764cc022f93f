"""One run of `tether port-forward`: connect, listen, show, and say why it ended.

Law: the local ports are there only while the SSH connection is. A signal ends it as it would end
`ssh`; whatever else ends it is told.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

from tether.cli.port_forward.forwarding import PortForwarding
from tether.cli.port_forward.specs import ForwardSpec
from tether.cli.port_forward.view import ForwardView, JsonLines, LiveTable, PlainLines
from tether.client.connection import ClientConnection
from tether.client.errors import EXIT_CONNECTION_FAILED
from tether.client.host_keys import trust_grant
from tether.client.outcome import judge, say
from tether.client.report.end_report import Seen
from tether.client.ssh_client import SshClient
from tether.net.clock import SystemClock
from tether.net.signals import Received, SignalWatcher
from tether.net.tasks import Tasks
from tether.protocol.carriers.commands import Over

REFRESH_S = 0.5


class Run:
    """One run of `tether port-forward`."""

    def __init__(
        self,
        workspace: str,
        forwards: list[ForwardSpec],
        env: Mapping[str, str],
        *,
        as_json: bool,
        live: bool,
    ) -> None:
        self._workspace = workspace
        self._forwards = forwards
        self._clock = SystemClock()
        self._loop = asyncio.get_running_loop()
        self._view: ForwardView = PlainLines()
        if as_json:
            self._view = JsonLines()
        elif live:
            self._view = LiveTable(workspace, self._loop.time)
        self._connection = ClientConnection(
            workspace,
            env,
            clock=self._clock,
            on_grant=lambda files, grant: trust_grant(files, workspace, grant),
            on_status=self._view.path,
            on_over=self._no_way,
        )
        self._client: SshClient | None = None
        self._stopped = asyncio.Event()
        self._signalled = False
        self._told = ""
        self._tasks = Tasks("port-forward")

    async def run(self) -> int:
        """Forward until a signal, or the end of the connection; the exit code."""
        watcher = SignalWatcher(self._signal)
        seen: Seen | None = None
        opening = self._tasks.spawn(self._connection.open(), "open")
        stopped = self._tasks.spawn(self._stopped.wait(), "stopped")
        try:
            await asyncio.wait([opening, stopped], return_when=asyncio.FIRST_COMPLETED)
            if not opening.done():  # Ctrl-C while connecting
                return 0
            self._client = SshClient(opening.result(), self._clock)
            seen = self._client.bridge.tunnel
            return await self._forward(self._client)
        finally:
            watcher.stop()
            self._view.close()
            await self._tasks.cancel()
            await self._connection.close(seen)

    async def _forward(self, client: SshClient) -> int:
        client.when_over(self._stopped.set)
        try:
            connection = await client.open(self._connection.files, self._workspace)
            forwarding = PortForwarding(connection, self._view.happened)
            await forwarding.start(self._forwards)
            try:
                await self._show_until_stopped(forwarding)
            finally:
                await forwarding.close()
        finally:
            cell = await client.close()
        if self._signalled:
            return 0
        outcome = judge(cell, "", self._workspace, client.bridge.refusal, told=self._told)
        self._view.close()
        say(outcome.sentence or "the connection was closed")
        return EXIT_CONNECTION_FAILED

    async def _show_until_stopped(self, forwarding: PortForwarding) -> None:
        while not self._stopped.is_set():
            self._view.refresh(forwarding.traffic)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REFRESH_S):
                    await self._stopped.wait()
        self._view.refresh(forwarding.traffic)

    def _signal(self, received: Received) -> None:
        self._signalled = True
        if self._client is not None:
            self._client.signalled(received)
        self._stopped.set()

    def _no_way(self, over: Over) -> None:
        if self._client is not None:
            self._told = over.message
            self._client.bridge.no_way(over)
