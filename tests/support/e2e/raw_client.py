"""An SSH client that says what it likes: asyncssh for keys and ciphers, our own words in channels."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import subprocess
from collections.abc import AsyncIterator
from typing import Any

import asyncssh
from asyncssh.constants import (
    MSG_CHANNEL_CLOSE,
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EXTENDED_DATA,
    MSG_CHANNEL_FAILURE,
    MSG_CHANNEL_OPEN,
    MSG_CHANNEL_REQUEST,
    MSG_CHANNEL_SUCCESS,
    MSG_CHANNEL_WINDOW_ADJUST,
)
from asyncssh.packet import Boolean, String, UInt32

from tests.support.deadline import DEADLINE_S
from tests.support.e2e.stack import TETHER, Stack


class RawChannel:
    """One channel as asyncssh's connection sees it: it keeps every answer and judges nothing."""

    def __init__(self, ssh: Any) -> None:
        self._ssh = ssh
        self.number: int = ssh.add_channel(self)
        self.opened: asyncio.Future[tuple[int, int, int]] = (
            asyncio.get_running_loop().create_future()
        )
        self.answers: asyncio.Queue[bool] = asyncio.Queue()
        self.output = b""
        self.errors = b""
        self.requests: list[bytes] = []
        self.exit_code: int | None = None
        self.closed = asyncio.Event()
        self._there = -1

    # -- what we say ---------------------------------------------------------------------

    def open(
        self, kind: bytes = b"session", window: int = 1 << 21, packet: int = 1 << 15, *more: bytes
    ) -> None:
        head = String(kind) + UInt32(self.number) + UInt32(window) + UInt32(packet)
        self._ssh.send_packet(MSG_CHANNEL_OPEN, head, *more)

    def send(self, number: int, *parts: bytes) -> None:
        self._ssh.send_packet(number, UInt32(self._there), *parts)

    def request(self, name: bytes, *parts: bytes, reply: bool = True) -> None:
        self.send(MSG_CHANNEL_REQUEST, String(name), Boolean(reply), *parts)

    def data(self, data: bytes) -> None:
        self.send(MSG_CHANNEL_DATA, String(data))

    def widen(self, window: int) -> None:
        self.send(MSG_CHANNEL_WINDOW_ADJUST, UInt32(window))

    async def asked(self, name: bytes, *parts: bytes) -> bool:
        """Whether the request was granted."""
        self.request(name, *parts)
        return await asyncio.wait_for(self.answers.get(), DEADLINE_S)

    async def is_open(self) -> tuple[int, int, int]:
        """Its number there, its window, its largest packet; raises ChannelOpenError."""
        return await asyncio.wait_for(self.opened, DEADLINE_S)

    async def is_closed(self) -> None:
        await asyncio.wait_for(self.closed.wait(), DEADLINE_S)

    # -- what asyncssh's connection calls ----------------------------------------------------

    def close(self) -> None:
        """The connection is being closed."""

    def log_received_packet(self, *_: object) -> None:
        pass

    log_sent_packet = log_received_packet

    def process_open_confirmation(self, there: int, window: int, packet: int, _: object) -> None:
        self._there = there
        self.opened.set_result((there, window, packet))

    def process_open_failure(self, code: int, reason: str, _: str) -> None:
        self.opened.set_exception(asyncssh.ChannelOpenError(code, reason))
        self._ssh.remove_channel(self.number)

    def process_packet(self, number: int, _: int, packet: Any) -> bool:
        if number in (MSG_CHANNEL_SUCCESS, MSG_CHANNEL_FAILURE):
            self.answers.put_nowait(number == MSG_CHANNEL_SUCCESS)
        elif number == MSG_CHANNEL_DATA:
            self.output += packet.get_string()
        elif number == MSG_CHANNEL_EXTENDED_DATA:
            packet.get_uint32()
            self.errors += packet.get_string()
        elif number == MSG_CHANNEL_REQUEST:
            self.requests.append(name := packet.get_string())
            packet.get_boolean()
            if name == b"exit-status":
                (self.exit_code,) = struct.unpack(">I", packet.get_remaining_payload())
        elif number == MSG_CHANNEL_CLOSE and not self.closed.is_set():
            self.send(MSG_CHANNEL_CLOSE)
            self.closed.set()
            self._ssh.remove_channel(self.number)
        return True

    def process_connection_close(self, _: object) -> None:
        if not self.opened.done():
            self.opened.set_exception(asyncssh.ChannelOpenError(2, "the connection is lost"))
            self.opened.exception()
        self.closed.set()


class _Ends(asyncssh.SSHClient):
    """Keeps how the connection ended."""

    exc: Exception | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        self.exc = exc


class RawClient:
    """One SSH connection to a workspace through `tether ssh --stdio`, whose complaints are kept."""

    def __init__(self, ssh: Any, proxy: subprocess.Popen[str], ends: _Ends) -> None:
        self.ssh, self._proxy, self._ends = ssh, proxy, ends
        self.said = ""
        """What `tether ssh --stdio` told the user, once it has ended."""

    @property
    def disconnected_with(self) -> str:
        """What SSH_MSG_DISCONNECT said, "" where there was none."""
        exc = self._ends.exc
        told = isinstance(exc, asyncssh.DisconnectError) and not isinstance(
            exc, asyncssh.ConnectionLost
        )
        return str(exc) if told else ""

    def send(self, number: int, *parts: bytes) -> None:
        self.ssh.send_packet(number, *parts)

    async def session(self, window: int = 1 << 21, packet: int = 1 << 15) -> RawChannel:
        channel = RawChannel(self.ssh)
        channel.open(b"session", window, packet)
        await channel.is_open()
        return channel

    async def run(self, command: bytes, **more: int) -> RawChannel:
        """Run a command to its end."""
        channel = await self.session(**more)
        assert await channel.asked(b"exec", String(command))
        await channel.is_closed()
        return channel

    async def is_lost(self) -> None:
        """The agent ended the connection."""
        await asyncio.wait_for(self.ssh.wait_closed(), DEADLINE_S)

    async def leave(self) -> None:
        """Disconnect, and let the proxy say what it knows."""
        self.ssh.close()
        await self.is_lost()
        _, self.said = await asyncio.to_thread(self._proxy.communicate, timeout=DEADLINE_S)


@contextlib.asynccontextmanager
async def raw_client(stack: Stack, host: str = "") -> AsyncIterator[RawClient]:
    """Connect to a workspace of `stack`.

    The proxy is a process of ours and not asyncssh's ProxyCommand, which it kills when it closes.
    """
    client, host = stack.root / "client" / "ssh", host or stack.host
    ours, theirs = socket.socketpair()
    with theirs:
        proxy = subprocess.Popen(
            [*TETHER, "ssh", "--stdio", "--", host],
            env=stack.env,
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=subprocess.PIPE,
            text=True,
        )
    try:
        ends = _Ends()
        ssh = await asyncssh.connect(
            host,
            client_factory=lambda: ends,
            sock=ours,
            username="anybody",
            known_hosts=str(client / "known_hosts"),
            client_keys=[str(client / "id_ed25519")],
            config=None,
            agent_path=None,
        )
        raw = RawClient(ssh, proxy, ends)
        try:
            yield raw
        finally:
            await raw.leave()
    finally:
        ours.close()
        if proxy.poll() is None:
            proxy.kill()
        proxy.communicate()
