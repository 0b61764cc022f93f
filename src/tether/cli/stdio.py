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
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tether.attribution.classify import classify
from tether.attribution.disconnect import CloseCell
from tether.attribution.explain import explain
from tether.attribution.vocabulary import ConnectionMethod, ConnectType, Initiator, Party
from tether.cli.bridge import Bridge
from tether.cli.control import Control
from tether.cli.device_key import ensure_device_key
from tether.cli.failure import (
    EXIT_CONNECTION_FAILED,
    EXIT_USAGE,
    Failure,
    os_failure,
    set_up_logging,
)
from tether.cli.host_keys import Judgement, Pin, check, workspace_name
from tether.cli.pipes import NonBlocking
from tether.config import ClientFiles, ConfigError, client_files, load, write_atomically
from tether.net.clock import Clock, SystemClock
from tether.net.resumable import Carrier, ResumableStream
from tether.net.signals import Received, SignalWatcher, block
from tether.net.streams import DialFailed, MessageStream
from tether.net.tunnel import dial_relay
from tether.net.ws_client import dial
from tether.protocol.attachment import TunnelKey
from tether.protocol.detached import Waits
from tether.protocol.messages import MAX_CONTROL_MESSAGE, SessionResult, TunnelGrant
from tether.protocol.tunnel_events import CarrierUp, PathEvent

RESULT_FILE = "TETHER_RESULT_FILE"
"""Names a file for `tether ssh`: how the remote command ended, and why the connection did."""


ONE_CARRIER = Waits(vanished_s=0.0, policy_s=0.0)
"""There is no second carrier to wait for."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What to tell the user, and the exit code."""

    by: str
    """"local", "remote" or "failed": who ended the connection, or that none came up."""
    cause: str = ""
    sentence: str = ""
    code: int = 0


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
        self._host, self._env, self._workspace = host, env, ""
        self._clock: Clock = SystemClock()
        self._parent = os.getppid()
        self._bridge: Bridge | None = None
        self._connecting: asyncio.Task[Any] | None = None
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
            outcome = Outcome("local", cause="client.closed", code=EXIT_CONNECTION_FAILED)
        finally:
            watcher.stop()
        return outcome.code

    async def _connect(self) -> Outcome:
        self._workspace = workspace_name(self._host)
        config, files = load(self._env), client_files(self._env)
        public_key = ensure_device_key(files)
        control = Control(
            lambda: dial(config.control_url, token=config.token, max_size=MAX_CONTROL_MESSAGE),
            self._clock,
        )
        try:
            await control.connect()
            grant = await control.request_tunnel(self._workspace, public_key)
            self._result.update(connection_id=grant.connection_id)
            self._trust(files, grant)
            carrier = await dial_relay(grant.relay_url, grant.ticket)
            bridge = self._open(self._stream(grant, carrier))
            with NonBlocking(0, 1):
                cell = await bridge.run()
            outcome = judge(cell, bridge.left_for, self._workspace, bridge.refusal)
            self._tell(outcome)
            await control.report(grant.connection_id, bridge.tunnel)
            return outcome
        finally:
            self._connecting = None
            await control.leave()

    def _stream(self, grant: TunnelGrant, carrier: MessageStream) -> ResumableStream:
        stream = ResumableStream(
            me=Party.CLIENT,
            connection_id=grant.connection_id,
            key=TunnelKey.read(grant.tunnel_key),
            clock=self._clock,
            waits=ONE_CARRIER,
        )

        def happened(event: PathEvent) -> None:
            if isinstance(event, CarrierUp):
                asyncio.get_running_loop().call_soon(stream.use, event.carrier)

        stream.listen(happened)
        stream.add(
            Carrier(
                number=1,
                method=ConnectionMethod.DERP,
                where=grant.region,
                stream=carrier,
                peer=Party.RELAY,
            )
        )
        return stream

    def _open(self, stream: ResumableStream) -> Bridge:
        self._bridge = Bridge(
            stream,
            stdin=0,
            stdout=1,
            clock=self._clock,
            on_result=self._session_ended,
            parent=self._parent,
        )
        return self._bridge

    def _trust(self, files: ClientFiles, grant: TunnelGrant) -> None:
        judged = check(files, self._workspace, Pin(grant.workspace_id, grant.host_key))
        if judged is Judgement.OTHER_WORKSPACE:
            say(
                f"{self._workspace} is another workspace than the one of that name used before; "
                "its host key is pinned anew"
            )
        if grant.certificate:
            write_atomically(files.certificate, f"{grant.certificate.strip()}\n", mode=0o644)

    def _signalled(self, received: Received) -> None:
        if self._bridge is not None:
            self._bridge.signalled(received)
        elif self._connecting is not None:
            self._connecting.cancel()

    def _session_ended(self, result: SessionResult) -> None:
        # Before ssh has read what follows: `tether ssh` looks when ssh has exited.
        self._result.update(exit_code=result.exit_code, exit_signal=result.exit_signal)

    def _end_ssh(self) -> None:
        """Spare the user the second-hand error of an ssh whose `tether ssh` knows the true one."""
        if self._result.wanted and os.getppid() == self._parent:
            os.kill(self._parent, signal.SIGTERM)

    def _tell(self, outcome: Outcome) -> None:
        self._result.update(by=outcome.by, cause=outcome.cause, sentence=outcome.sentence)
        if outcome.sentence:
            say(outcome.sentence, in_session=self._bridge is not None)


def judge(cell: CloseCell, left_for: str, workspace: str, refusal: str = "") -> Outcome:
    """What the end of a tunnel means for the user of the local `ssh`.

    Args:
        cell: what is known of the end.
        left_for: the actor, if we left while ssh was still there.
        workspace: the name to use in sentences.
        refusal: why ssh was not let in; ssh then leaves by itself.
    """
    disconnect = classify(ConnectType.AGENT_TO_CLIENT, cell.facts).disconnect
    sentence = explain(disconnect, workspace).sentence
    if refusal:
        return Outcome("failed", disconnect.cause, refusal, EXIT_CONNECTION_FAILED)
    if left_for:
        return Outcome("local", disconnect.cause, sentence, EXIT_CONNECTION_FAILED)
    if disconnect.initiator is Initiator.CLIENT and disconnect.expected:
        return Outcome("local", disconnect.cause)
    return Outcome("remote", disconnect.cause, sentence, EXIT_CONNECTION_FAILED)


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
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
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


def say(sentence: str, *, in_session: bool = False) -> None:
    """One line on stderr, also where ssh holds the terminal in raw mode."""
    terminal = os.isatty(2)
    start, end = ("\r\n" if in_session and terminal else ""), ("\r\n" if terminal else "\n")
    line = "".join(c if c.isprintable() else " " for c in sentence)
    with contextlib.suppress(OSError):  # it may be that nobody is left to read it
        sys.stderr.write(f"{start}tether: {line}{end}")
        sys.stderr.flush()
