"""Local ports that lead into a workspace, over one SSH connection: TCP as channels, UDP as frames.

Law: one listener that fails is told by name; one connection that fails harms no other. Everything is
bounded: connections by SSH's own windows and a limit, datagrams by dropping what has no room. Counts
are kept here and shown elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import asyncssh

from tether.cli.port_forward.specs import ForwardSpec
from tether.client.errors import Failure
from tether.net.tasks import Tasks
from tether.protocol.messages.base import Garbage
from tether.protocol.udp import (
    IDLE_S,
    MAX_DATAGRAM,
    MAX_FLOWS,
    SUBSYSTEM,
    DatagramReader,
    UdpOpen,
    frame,
    line,
    read_opened,
)

READ_SIZE = 64 << 10
MAX_CONNECTIONS = 512
"""Of one forward at once; the agent bounds a connection's channels, too."""

UNSENT = 1 << 20
"""Bytes of datagrams that may wait for SSH; what comes then is dropped, as UDP is."""


@dataclass(slots=True)
class Traffic:
    """What one forward has carried. `sent` is towards the workspace."""

    forward: ForwardSpec
    open: int = 0
    total: int = 0
    failed: int = 0
    sent: int = 0
    received: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Happened:
    """One thing to tell: `event` is "listening", "opened", "closed" or "failed"."""

    event: str
    forward: ForwardSpec
    peer: str = ""
    error: str = ""
    sent: int = 0
    received: int = 0
    duration_s: float = 0.0


Tell = Callable[[Happened], None]


@dataclass(slots=True)
class PortForwarding:
    """All forwards of one run."""

    connection: asyncssh.SSHClientConnection
    tell: Tell
    traffic: list[Traffic] = field(default_factory=list)
    _listeners: list[TcpForward | UdpForward] = field(default_factory=list)

    async def start(self, forwards: list[ForwardSpec]) -> None:
        """Listen on every local port.

        Raises:
            Failure: one cannot be had; none is kept.
        """
        for forward in forwards:
            traffic = Traffic(forward)
            kind = TcpForward if forward.protocol == "tcp" else UdpForward
            listener = kind(self.connection, traffic, self.tell)
            try:
                await listener.start()
            except OSError as wrong:
                await self.close()
                why = wrong.strerror or str(wrong)
                raise Failure(
                    f"cannot listen on {forward.local} ({forward.protocol}): {why}"
                ) from (wrong)
            self.traffic.append(traffic)
            self._listeners.append(listener)
            self.tell(Happened("listening", forward))

    async def close(self) -> None:
        """Listen no more. What is open ends with the connection that carries it."""
        for listener in self._listeners:
            await listener.close()


class TcpForward:
    """One TCP port."""

    def __init__(
        self, connection: asyncssh.SSHClientConnection, traffic: Traffic, tell: Tell
    ) -> None:
        self._connection = connection
        self._traffic = traffic
        self._tell = tell
        self._server: asyncio.Server | None = None
        self._tasks = Tasks(f"forward-{traffic.forward.local}")
        self._loop = asyncio.get_running_loop()

    async def start(self) -> None:
        """Listen."""
        forward = self._traffic.forward
        self._server = await asyncio.start_server(
            self._accepted, forward.bind, forward.local_port, limit=READ_SIZE
        )

    async def close(self) -> None:
        """Listen no more, and let go of what is open."""
        if self._server is not None:
            self._server.close()
        await self._tasks.cancel()

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.spawn(self._carry(reader, writer), "connection")

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        traffic, forward = self._traffic, self._traffic.forward
        peer = writer.get_extra_info("peername") or ("", 0)
        name, began = f"{peer[0]}:{peer[1]}", self._loop.time()
        traffic.total += 1
        try:
            if traffic.open >= MAX_CONNECTIONS:
                raise asyncssh.ChannelOpenError(
                    asyncssh.OPEN_RESOURCE_SHORTAGE, f"{MAX_CONNECTIONS} connections are open"
                )
            far_reader, far_writer = await self._connection.open_connection(
                forward.host, forward.remote_port, peer[0], peer[1], encoding=None
            )
        except (asyncssh.Error, OSError) as wrong:
            traffic.failed += 1
            traffic.error = getattr(wrong, "reason", "") or str(wrong)
            self._tell(Happened("failed", forward, name, traffic.error))
            writer.transport.abort()  # as a port where nothing listens
            return
        traffic.open += 1
        self._tell(Happened("opened", forward, name))
        counts = [0, 0]
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_copy(reader, far_writer, self._sent, counts, 0))
                both.create_task(_copy(far_reader, writer, self._received, counts, 1))
        except* (OSError, asyncssh.Error):
            pass  # either side is gone: so is the other
        finally:
            traffic.open -= 1
            far_writer.close()
            writer.close()
            self._tell(
                Happened(
                    *("closed", forward, name, ""),
                    sent=counts[0],
                    received=counts[1],
                    duration_s=round(self._loop.time() - began, 3),
                )
            )

    def _sent(self, count: int) -> None:
        self._traffic.sent += count

    def _received(self, count: int) -> None:
        self._traffic.received += count


async def _copy(
    reader: Any, writer: Any, counted: Callable[[int], None], counts: list[int], which: int
) -> None:
    while data := await reader.read(READ_SIZE):
        writer.write(data)
        counted(len(data))
        counts[which] += len(data)
        await writer.drain()
    if writer.can_write_eof():
        with contextlib.suppress(OSError):
            writer.write_eof()


class UdpForward(asyncio.DatagramProtocol):
    """One UDP port: each sender is a flow of its own, which is forgotten when it is idle."""

    def __init__(
        self, connection: asyncssh.SSHClientConnection, traffic: Traffic, tell: Tell
    ) -> None:
        self._connection = connection
        self._traffic = traffic
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks(f"forward-{traffic.forward.local}")
        self._transport: asyncio.DatagramTransport | None = None
        self._socket: socket.socket | None = None  # the transport's
        self._flows: OrderedDict[Any, tuple[int, float]] = OrderedDict()
        self._senders: dict[int, Any] = {}
        self._numbers = 0
        self._process: asyncssh.SSHClientProcess[bytes] | None = None
        self._early: list[bytes] = []
        self._opening = False

    @property
    def local_port(self) -> int:
        """Where it listens, also where the system was to choose the port."""
        assert self._socket is not None, "started"
        return int(self._socket.getsockname()[1])

    async def start(self) -> None:
        """Listen."""
        forward = self._traffic.forward
        family = socket.AF_INET6 if ":" in forward.bind else socket.AF_INET
        found = await self._loop.getaddrinfo(
            forward.bind, forward.local_port, family=family, type=socket.SOCK_DGRAM
        )
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            self._socket.bind(found[0][4])
            await self._loop.create_datagram_endpoint(lambda: self, sock=self._socket)
        except BaseException:
            self._socket.close()
            raise

    async def close(self) -> None:
        """Listen no more."""
        if self._transport is not None:
            self._transport.close()
        await self._tasks.cancel()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        packed = frame(self._flow(addr), data)
        process = self._process
        if process is None:
            if len(self._early) < MAX_FLOWS:
                self._early.append(packed)
            if not self._opening:
                self._opening = True
                self._tasks.spawn(self._open(), "subsystem")
        elif process.stdin.channel.get_write_buffer_size() + len(packed) <= UNSENT:
            self._write(process, packed)

    def _write(self, process: asyncssh.SSHClientProcess[bytes], packed: bytes) -> None:
        self._traffic.sent += len(packed) - 6
        with contextlib.suppress(OSError, asyncssh.Error):
            process.stdin.write(packed)

    def _flow(self, address: Any) -> int:
        now, known = self._loop.time(), self._flows.pop(address, None)
        while self._flows and (
            len(self._flows) >= MAX_FLOWS or next(iter(self._flows.values()))[1] + 2 * IDLE_S <= now
        ):
            _, (idle, _) = self._flows.popitem(last=False)
            del self._senders[idle]
        if known is None:
            self._numbers = (self._numbers + 1) & 0xFFFFFFFF
            self._traffic.total += 1
            number = self._numbers
        else:
            number = known[0]
        self._flows[address] = number, now
        self._senders[number] = address
        self._traffic.open = len(self._flows)
        return number

    async def _open(self) -> None:
        forward = self._traffic.forward
        try:
            process = await self._connection.create_process(subsystem=SUBSYSTEM, encoding=None)
            with contextlib.suppress(OSError):  # one that refuses has said so, and may be closed
                process.stdin.write(line(UdpOpen(host=forward.host, port=forward.remote_port)))
            opened = read_opened(await process.stdout.readline())
            if opened.error:
                raise Garbage(opened.error)
            self._process = process
            for packed in self._early:
                self._write(process, packed)
            await self._read(process)
        except (asyncssh.Error, OSError, Garbage) as wrong:
            self._traffic.failed += 1
            self._traffic.error = getattr(wrong, "reason", "") or str(wrong)
            self._tell(Happened("failed", forward, error=self._traffic.error))
        finally:
            self._process, self._opening = None, False  # the next datagram tries again
            self._early.clear()

    async def _read(self, process: asyncssh.SSHClientProcess[bytes]) -> None:
        reader = DatagramReader()
        while data := await process.stdout.read(READ_SIZE):
            for flow, datagram in reader.feed(data):
                if flow in self._senders:
                    self._traffic.received += len(datagram)
                    self._answer(datagram[:MAX_DATAGRAM], self._senders[flow])

    def _answer(self, datagram: bytes, address: Any) -> None:
        if self._transport is None or self._socket is None or self._transport.is_closing():
            return
        if datagram:
            self._transport.sendto(datagram, address)
        else:  # asyncio sends none that is empty (up to Python 3.12), and an answer it is
            with contextlib.suppress(OSError):
                self._socket.sendto(datagram, address)
