"""`tether ssh --stdio NAME`: the ProxyCommand that joins a local `ssh` to a workspace's agent.

Law: imports only what a tunnel needs, for every `git fetch` waits for it (no click, no rich, no
HTTP). stdout carries tunnel bytes and nothing else. The host key is checked before the first of them.
When the other side ends the connection, one sentence on stderr says why.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tether.attribution.causes.codes import CLIENT_CLOSED
from tether.client.bridge import Bridge
from tether.client.connection import ClientConnection
from tether.client.control.link import LINGER_S
from tether.client.errors import (
    EXIT_CONNECTION_FAILED,
    EXIT_USAGE,
    Failure,
    os_failure,
    set_up_logging,
)
from tether.client.host_keys import trust_further, trust_grant, workspace_name
from tether.client.outcome import Outcome, judge, say
from tether.client.report.end_report import Seen
from tether.config import ClientFiles, ConfigError
from tether.net.clock import Clock, SystemClock
from tether.net.fd_io import NonBlocking
from tether.net.host.platform import CLOEXEC, signals
from tether.net.signals import Received, SignalWatcher, block
from tether.net.transport.streams import DialFailed
from tether.net.tunnel.stream import TunnelStream
from tether.protocol.carriers.commands import Carried, Over, Status
from tether.protocol.messages.tunnel import FurtherHostKey, Redraw, SessionResult, TunnelGrant

if TYPE_CHECKING:
    from tether.client.status_line import View

SENTENCE_LATER = "TETHER_SENTENCE_LATER"
"""Set by a `tether ssh` that says itself, from the result file, why a session ended: once its terminal
shows the user's own screen again."""

RESULT_FILE = "TETHER_RESULT_FILE"
"""Names a file for `tether ssh`: how the remote command ended, and why the connection did."""


def main(arguments: Sequence[str]) -> int:
    """Run the ProxyCommand; the exit code."""
    block()
    set_up_logging(os.environ)
    names = [argument for argument in arguments if argument != "--"]
    if len(names) != 1 or names[0].startswith("-"):
        say("`tether ssh --stdio` takes the name of one workspace")
        return EXIT_USAGE
    try:
        return asyncio.run(Proxy(names[0], os.environ).run())
    except Exception as wrong:
        if os.environ.get("TETHER_DEBUG"):
            raise
        say(f"internal error: {type(wrong).__name__}: {wrong}; TETHER_DEBUG=1 tells more")
        return EXIT_CONNECTION_FAILED


class Proxy:
    """One run: from the configuration to the goodbye."""

    def __init__(self, host: str, env: Mapping[str, str]) -> None:
        """`host` is what ssh was asked for: a workspace's name, with or without our suffix."""
        self._host = host
        self._env = env
        self._workspace = ""
        self._clock: Clock = SystemClock()
        self._parent = os.getppid()
        self._bridge: Bridge | None = None
        self._view: View | None = None
        self._told = ""
        self._connecting: asyncio.Task[Any] | None = None
        self._lingering: asyncio.Task[Any] | None = None
        self._result = ResultFile(env.get(RESULT_FILE, ""))

    async def run(self) -> int:
        """Connect, carry bytes, and say why it ended; the exit code."""
        self._connecting = asyncio.current_task()
        watcher = SignalWatcher(self._signalled)
        try:
            outcome = await self._connect()
        except (Failure, ConfigError, DialFailed, OSError) as wrong:
            told = os_failure(wrong) if isinstance(wrong, OSError) else wrong
            outcome = Outcome("failed", sentence=str(told), code=EXIT_CONNECTION_FAILED)
            self._tell(outcome)
            self._end_ssh()
        except asyncio.CancelledError:  # ssh gave up, or was told to, before there was a tunnel
            outcome = Outcome("local", cause=CLIENT_CLOSED, code=EXIT_CONNECTION_FAILED)
        finally:
            watcher.stop()
        return outcome.code

    async def _connect(self) -> Outcome:
        self._workspace = workspace_name(self._host)
        connection = ClientConnection(
            self._workspace,
            self._env,
            clock=self._clock,
            on_grant=self._granted,
            on_status=self._show,
            on_over=self._no_way,
            linger=self._linger,
            on_wait=self._waiting,
        )
        seen: Seen | None = None
        try:
            bridge = self._open(await connection.open(), connection)
            with NonBlocking(0, 1):
                cell = await bridge.run()
            seen = bridge.tunnel
            if self._view is not None:
                self._view.close()
            outcome = judge(cell, bridge.left_for, self._workspace, bridge.refusal, told=self._told)
            self._tell(outcome)
            return outcome
        except (Failure, ConfigError, DialFailed, OSError):
            raise
        except Exception as wrong:
            connection.failed(wrong)
            raise
        finally:
            self._connecting = None
            await connection.close(seen)

    def _open(self, stream: TunnelStream, connection: ClientConnection) -> Bridge:
        self._bridge = Bridge(
            stream,
            stdin=0,
            stdout=1,
            clock=self._clock,
            on_result=self._session_ended,
            on_host_key=lambda key: self._further_host_key(connection.files, key),
            on_other_key=self._other_key_used,
            parent=self._parent,
            host_context=connection.host_context,
        )
        return self._bridge

    def _granted(self, files: ClientFiles, grant: TunnelGrant) -> None:
        self._result.update(connection_id=grant.connection_id)
        trust_grant(files, self._workspace, grant)

    def _further_host_key(self, files: ClientFiles, key: FurtherHostKey) -> None:
        try:
            trust_further(files, self._workspace, key)
        except (Failure, OSError) as wrong:  # ssh refuses by itself what is not pinned
            told = os_failure(wrong) if isinstance(wrong, OSError) else wrong
            say(str(told), in_session=True)

    def _other_key_used(self) -> None:
        from tether.cli.ssh.copied_key import KEYS_OPEN_NOTHING, asks_for_its_key

        if asks_for_its_key(self._parent):
            say(KEYS_OPEN_NOTHING, in_session=True)
            os.kill(self._parent, signal.SIGTERM)

    def _show(self, status: Status) -> None:
        if self._view is None:
            if isinstance(status, Carried):
                return  # nothing was lost so far, and nothing is imported to say so
            self._view = self._new_view()
        self._view.show(status)

    def _waiting(self, sentence: str) -> None:
        if self._env.get("TETHER_QUIET", "") not in ("", "0"):
            return
        from tether.client import status_line as view

        if self._env.get(view.COLUMNS, "").isdecimal():
            view.hand_over(sentence)
        else:
            say(sentence)

    def _new_view(self) -> View:
        from tether.client import status_line as view

        columns = self._env.get(view.COLUMNS, "")
        attached = columns.isdecimal()
        screen: view.StatusScreen = view.StderrScreen()
        if self._env.get(view.QUIET, "") not in ("", "0"):
            screen = view.NoScreen()
        elif attached:
            screen = view.HandedScreen(int(columns))
        return view.View(
            self._workspace,
            screen,
            now=lambda: self._clock.now().mono,
            redraw=self._redraw,
            way_out=view.TO_DETACH if attached else view.TO_QUIT,
        )

    def _redraw(self) -> None:
        if self._bridge is not None:
            self._bridge.tunnel.send(Redraw())

    def _no_way(self, over: Over) -> None:
        if self._bridge is not None:
            self._told = over.message
            self._bridge.no_way(over)

    def _signalled(self, received: Received) -> None:
        if self._lingering is not None:
            if received.number not in signals("SIGHUP"):  # ssh sends that as it leaves
                self._lingering.cancel()
        elif self._bridge is not None:
            self._bridge.signalled(received)
        elif self._connecting is not None:
            self._connecting.cancel()

    def _linger(self) -> float:
        """Let ssh, and whoever reads its output, go; what is left to do is ours alone."""
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        os.close(null)
        self._lingering = asyncio.current_task()
        return LINGER_S

    def _session_ended(self, result: SessionResult) -> None:
        # Before ssh has read what follows: `tether ssh` looks when ssh has exited.
        self._result.update(exit_code=result.exit_code, exit_signal=result.exit_signal)

    def _end_ssh(self) -> None:
        """Spare the user the second-hand error of an ssh whose `tether ssh` knows the true one."""
        if self._result.wanted and os.getppid() == self._parent:
            os.kill(self._parent, signal.SIGTERM)

    def _tell(self, outcome: Outcome) -> None:
        self._result.update(by=outcome.by, cause=outcome.cause, sentence=outcome.sentence)
        if outcome.sentence and not (self._bridge and self._env.get(SENTENCE_LATER)):
            say(outcome.sentence, in_session=self._bridge is not None)


_RESULT_KEYS = ("connection_id", "exit_code", "exit_signal", "cause", "sentence", "by")


class ResultFile:
    """Where `tether ssh` reads what the exit code of `ssh` cannot tell.

    A line of JSON is added whenever more is known; the last whole line counts. The file is opened
    once: ssh does not wait for us, so that its reader may have removed the file by the end.
    """

    def __init__(self, path: str) -> None:
        self._fields: dict[str, Any] = dict.fromkeys(_RESULT_KEYS)
        self._file: int | None = None
        if path:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | CLOEXEC
            with contextlib.suppress(OSError):  # without it, too, the connection works
                self._file = os.open(path, flags, 0o600)

    @property
    def wanted(self) -> bool:
        """Whether somebody reads it."""
        return self._file is not None

    def update(self, **fields: Any) -> None:
        """Write what is known by now."""
        self._fields.update(fields)
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.write(self._file, json.dumps(self._fields).encode() + b"\n")
