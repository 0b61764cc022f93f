"""An agent's SSH server in this process, tunnels to it over cables, and stock clients for both.

A loopback port stands where a client's tether process would: each connection to it becomes a tunnel
of its own, and what the port's peer does (leave, break off) is said on the tunnel as that process
would say it. Every process started here is waited for or killed by pid.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh

from tests.support.deadline import DEADLINE_S
from tests.support.net.cable import Cable, CableEnd
from tests.support.net.tunnels import KEY_TEXT, agent_over, client_over, relayed
from tether.agent.process.environment import Account
from tether.agent.ssh.host_key import HostKey, load_or_create
from tether.agent.ssh.server import SshServer, SshSettings
from tether.agent.tunnels.service import ConnectionEnd, EndOrder
from tether.attribution import evidence as ev
from tether.attribution.vocabulary import Party, Vantage
from tether.net.clock import Clock, SystemClock
from tether.net.tasks import Tasks
from tether.net.tunnel.endpoint import TunnelEndpoint
from tether.net.tunnel.stream import TunnelStream
from tether.protocol.messages.base import Message
from tether.protocol.messages.reports import ReportItem, SessionRecord
from tether.protocol.messages.tunnel import FurtherHostKey, TunnelOffer
from tether.protocol.tunnel.resume_policy import Waits

SHORT = Waits(vanished_s=0.2, policy_s=0.2)
WORKSPACE_ID = "ws-1"


def line_of(key: asyncssh.SSHKey) -> str:
    """The public half of a key as one OpenSSH line."""
    return key.export_public_key().decode().strip()


@dataclass
class Keys:
    """Everybody's keys."""

    host: HostKey
    device: asyncssh.SSHKey = field(
        default_factory=lambda: asyncssh.generate_private_key("ssh-ed25519")
    )
    authority: asyncssh.SSHKey = field(
        default_factory=lambda: asyncssh.generate_private_key("ssh-ed25519")
    )

    def certificate(self, **changes: Any) -> asyncssh.SSHCertificate:
        """A user certificate as the server would issue it, but for `changes`."""
        authority = changes.pop("authority", self.authority)
        given: dict[str, Any] = {
            "user_key": self.device,
            "key_id": "user:alice",
            "principals": [WORKSPACE_ID],
            "valid_after": "-1m",
            "valid_before": "+5m",
        } | changes
        certificate: asyncssh.SSHCertificate = authority.generate_user_certificate(
            given.pop("user_key"), **given
        )
        return certificate


class ClientEnd:
    """The client's end of one tunnel, driven by hand."""

    def __init__(
        self, end: CableEnd, clock: Clock, tasks: Tasks, *, connection_id: str, waits: Waits
    ) -> None:
        self.cable_end = end
        self.stream = client_over(end, clock, connection_id=connection_id, waits=waits)
        self.heard: list[Message] = []
        self.data, self.sent = bytearray(), bytearray()
        self.on_data: Callable[[bytes], None] = lambda data: None
        self.on_host_key: Callable[[str], None] = lambda key: None
        self._changed = asyncio.Event()
        self.tunnel = TunnelEndpoint(
            self.stream,
            me=Party.CLIENT,
            peer=Party.AGENT,
            clock=clock,
            version="test",
            on_data=self._data,
            on_message=self._message,
        )
        self.ended = tasks.spawn(self.tunnel.run(), "client")

    def _data(self, data: memoryview) -> None:
        self.data += data
        self.on_data(bytes(data))
        self._changed.set()

    def _message(self, message: Message) -> None:
        self.heard.append(message)
        if isinstance(message, FurtherHostKey):
            self.on_host_key(message.public_key)
        self._changed.set()

    async def until(self, check: Callable[[], bool]) -> None:
        """Wait until something that was heard makes `check` true."""
        while not check():
            self._changed.clear()
            await self._changed.wait()

    async def goodbye(self) -> ev.GoodbyeSaid:
        """What the agent said when it left; whether it was first is not asked."""
        cell = await self.ended
        (said,) = (
            fact
            for fact in (*cell.facts, *cell.symptoms)
            if isinstance(fact, ev.GoodbyeSaid) and fact.by is Party.AGENT
        )
        return said

    def vanish_politely(self) -> None:
        """What a client's process says when its ssh closes the pipe."""
        fact = ev.LocalSideClosed(vantage=Vantage.CLIENT, at=0.0)
        self.tunnel.leave(because=fact)


class AgentRig:
    """An agent's SSH server and its clients. Made by `agent_rig`."""

    def __init__(self, directory: Path, settings: SshSettings, keys: Keys, clock: Clock) -> None:
        self.directory, self.keys, self.clock = directory, keys, clock
        self.items: list[ReportItem] = []
        self.ends: asyncio.Queue[ConnectionEnd] = asyncio.Queue()
        self.clients: list[ClientEnd] = []
        self.cables: list[Cable] = []
        self.waits = SHORT  # for a further carrier, of which there is none unless a test adds it
        self.served: list[TunnelStream] = []
        self.port = 0
        self.user = "alice"
        self.announced = line_of(keys.device)
        self.further: list[str] = []  # more keys that are announced
        self.on_host_key: Callable[[str], None] = lambda key: None  # for loopback clients
        self.tasks = Tasks("rig")
        self.server = SshServer(settings, clock=clock, on_item=self.items.append)

    @property
    def records(self) -> list[SessionRecord]:
        """What was reported of sessions."""
        return [item for item in self.items if isinstance(item, SessionRecord)]

    # -- tunnels -------------------------------------------------------------------------

    def tunnel(self, *, delay: float = 0.0, window: int = 64 << 10) -> ClientEnd:
        """A new tunnel, served by the agent; its client's end."""
        cable = Cable(delay=delay, window=window)
        self.cables.append(cable)
        offer = TunnelOffer(
            connection_id=uuid.uuid4().hex,
            relay_url="",
            ticket="",
            user=self.user,
            public_key=self.announced,
            further_public_keys=self.further,
            client_ip="192.0.2.7",
            client_port=40722,
            tunnel_key=KEY_TEXT,
        )
        self.tasks.spawn(self._serve(cable.left, offer), "serve")
        client = ClientEnd(
            cable.right,
            self.clock,
            self.tasks,
            connection_id=offer.connection_id,
            waits=self.waits,
        )
        self.clients.append(client)
        return client

    def another_carrier(self, number: int, *, tunnel: int = 0) -> Cable:
        """A further carrier for a tunnel that lives."""
        cable = Cable(delay=0.0)
        self.served[tunnel].add(relayed(number, cable.left))
        self.clients[tunnel].stream.add(relayed(number, cable.right))
        return cable

    async def _serve(self, stream: CableEnd, offer: TunnelOffer) -> None:
        served = agent_over(stream, self.clock, connection_id=offer.connection_id, waits=self.waits)
        self.served.append(served)
        self.ends.put_nowait(await self.server.serve(served, offer))

    async def end(self) -> ConnectionEnd:
        """The next connection that is over."""
        async with asyncio.timeout(DEADLINE_S):
            return await self.ends.get()

    async def cause(self) -> str:
        """The judged cause of the next connection that is over."""
        return (await self.end()).disconnect.cause

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = self.tunnel()
        client.on_data = writer.write
        client.on_host_key = self.on_host_key
        pump = self.tasks.spawn(self._pump(reader, client), "pump")
        await client.ended
        pump.cancel()
        with contextlib.suppress(OSError):
            await writer.drain()
            writer.close()

    async def _pump(self, reader: asyncio.StreamReader, client: ClientEnd) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                client.sent += data
                client.tunnel.write(data)
                await client.tunnel.drain()
        client.vanish_politely()

    # -- clients -------------------------------------------------------------------------

    async def connect(self, **options: Any) -> asyncssh.SSHClientConnection:
        """asyncssh's client, logged in with the device's key."""
        given: dict[str, Any] = {
            "username": "anybody",
            "client_keys": [self.keys.device],
            "known_hosts": None,
            "server_host_key_algs": ["ssh-ed25519"],  # asyncssh would rather have RSA
            "config": None,
            "agent_path": None,
        } | options
        return await asyncssh.connect("127.0.0.1", self.port, **given)

    def ssh_argv(self, *arguments: str) -> list[str]:
        """OpenSSH's client with nothing but what a test says."""
        return [*self._program("ssh", "-p"), *arguments]

    def _program(self, name: str, port_option: str) -> list[str]:
        options = {
            "IdentityFile": str(self.directory / "device"),
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": str(self.directory / "known_hosts"),
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "BatchMode": "yes",
            "NumberOfPasswordPrompts": "0",
        }
        return [
            *(name, "-F", "none", port_option, str(self.port)),
            *(part for key, value in options.items() for part in ("-o", f"{key}={value}")),
        ]

    def write_client_files(self) -> None:
        """The files that OpenSSH's programs read."""
        device = self.directory / "device"
        device.write_bytes(self.keys.device.export_private_key("openssh"))
        device.chmod(0o600)
        (self.directory / "known_hosts").write_text(
            f"[127.0.0.1]:{self.port} {self.keys.host.public_line}\n"
        )

    async def start(self, *argv: str, **streams: Any) -> asyncio.subprocess.Process:
        """A program of the client's machine."""
        return await asyncio.create_subprocess_exec(
            *argv,
            stdin=streams.get("stdin", asyncio.subprocess.DEVNULL),
            stdout=streams.get("stdout", asyncio.subprocess.PIPE),
            stderr=streams.get("stderr", asyncio.subprocess.PIPE),
            env={"PATH": os.environ["PATH"], "HOME": str(self.directory), **streams.get("env", {})},
        )

    async def run(
        self, *argv: str, input: bytes | None = None, **streams: Any
    ) -> tuple[int | None, bytes, bytes]:
        """Run a program to its end: its status, output and errors."""
        if input is not None:
            streams["stdin"] = asyncio.subprocess.PIPE
        process = await self.start(*argv, **streams)
        try:
            async with asyncio.timeout(DEADLINE_S):
                out, err = await process.communicate(input)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return process.returncode, out, err

    async def ssh(
        self, *arguments: str, input: bytes | None = None, **streams: Any
    ) -> tuple[int | None, bytes, bytes]:
        """OpenSSH's client: options, then the host's place is taken by the loopback, then words."""
        options = [a for a in arguments if a.startswith("-")]
        words = [a for a in arguments if not a.startswith("-")]
        return await self.run(*self.ssh_argv(*options, "127.0.0.1", *words), input=input, **streams)


@contextlib.asynccontextmanager
async def agent_rig(directory: Path, /, **changes: Any) -> AsyncIterator[AgentRig]:
    """An AgentRig with its loopback port; `changes` go into the settings."""
    keys = Keys(load_or_create(directory / "agent"))
    home = directory / "home"
    home.mkdir(exist_ok=True)
    settings: dict[str, Any] = {
        "host_key": keys.host,
        "user_ca_key": line_of(keys.authority),
        "workspace": "dev",
        "workspace_id": WORKSPACE_ID,
        "account": Account("worker", str(home), "/bin/bash"),
    } | changes
    clock = settings.pop("clock", None) or SystemClock()
    made = AgentRig(directory, SshSettings(**settings), keys, clock)
    listener = await asyncio.start_server(made._accepted, "127.0.0.1", 0)
    made.port = listener.sockets[0].getsockname()[1]
    made.write_client_files()
    try:
        async with asyncio.timeout(DEADLINE_S):
            yield made
    finally:
        listener.close()
        said = ev.GoodbyeSaid(vantage=Vantage.AGENT, at=0.0, by=Party.AGENT, cause="agent.shutdown")
        made.server.end(None, EndOrder(said, "the agent stops"))
        await made.server.close(timeout=DEADLINE_S)
        await made.tasks.cancel()
