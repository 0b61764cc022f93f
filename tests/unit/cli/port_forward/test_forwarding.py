"""Local ports that lead elsewhere, over a real SSH connection on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
from collections.abc import AsyncIterator
from typing import Any

import asyncssh
import pytest

from tests.support.deadline import DEADLINE_S
from tether.agent.ssh.udp_subsystem import command
from tether.attribution.vocabulary import ConnectionMethod
from tether.cli.port_forward.forwarding import Happened, PortForwarding, Traffic
from tether.cli.port_forward.specs import ForwardSpec, parse
from tether.cli.port_forward.view import JsonLines, PlainLines
from tether.client.errors import Failure
from tether.protocol.carriers.commands import Carried, Stalled
from tether.protocol.udp import SUBSYSTEM, UdpOpened, line


class Server(asyncssh.SSHServer):
    """Lets anybody in, and everybody through; closed ports are closed."""

    def begin_auth(self, username: str) -> bool:
        return False

    def connection_requested(self, *_: Any) -> bool:
        return True


async def subsystem(process: asyncssh.SSHServerProcess[bytes]) -> None:
    if process.subsystem != SUBSYSTEM:
        process.exit(1)
        return
    child = subprocess.Popen(command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    assert child.stdin is not None and child.stdout is not None
    reader, loop = asyncio.StreamReader(), asyncio.get_running_loop()
    pipe, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), child.stdout
    )

    async def up(sink: Any) -> None:
        with contextlib.suppress(asyncssh.Error):
            while data := await process.stdin.read(65536):
                sink.write(data)
        sink.close()

    async def down() -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                process.stdout.write(data)

    try:
        await asyncio.gather(up(child.stdin), down())
    finally:
        pipe.close()
        child.stdin.close()
        child.kill()
        process.exit(child.wait())


async def refused(process: asyncssh.SSHServerProcess[bytes]) -> None:
    process.stdout.write(line(UdpOpened(error="local port forwarding is disabled")))
    process.exit(1)


@contextlib.asynccontextmanager
async def ssh(factory: Any = subsystem) -> AsyncIterator[asyncssh.SSHClientConnection]:
    listener = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=Server,
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
        process_factory=factory,
        encoding=None,
    )
    try:
        async with asyncssh.connect(
            "127.0.0.1", listener.get_port(), known_hosts=None, config=None, agent_path=None
        ) as connection:
            yield connection
    finally:
        listener.close()


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.asynccontextmanager
async def forwarding(
    connection: asyncssh.SSHClientConnection, *forwards: ForwardSpec
) -> AsyncIterator[tuple[PortForwarding, list[Happened]]]:
    happened: list[Happened] = []
    made = PortForwarding(connection, happened.append)
    await made.start(list(forwards))
    try:
        yield made, happened
    finally:
        await made.close()


@contextlib.asynccontextmanager
async def service(answer: bytes) -> AsyncIterator[int]:
    """Reads to the end of what it is sent, then answers with its length and `answer`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.read(-1)
        writer.write(b"%d " % len(data) + answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def until(check: Any) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not check():
            await asyncio.sleep(0.01)


async def test_connections_are_carried_both_ways_and_counted() -> None:
    async with ssh() as connection, service(b"x" * 300_000) as port:
        here = free_port()
        async with forwarding(connection, *parse("tcp", f"{here}:{port}")) as (made, happened):
            reader, writer = await asyncio.open_connection("127.0.0.1", here)
            writer.write(b"y" * 500_000)
            writer.write_eof()  # half of it is over, and the answer still comes
            assert await reader.read(-1) == b"500000 " + b"x" * 300_000
            writer.close()
            await until(lambda: [h.event for h in happened][-1] == "closed")
        (traffic,) = made.traffic
        assert (traffic.open, traffic.total, traffic.sent, traffic.received) == (
            *(0, 1),
            *(500_000, 300_007),
        )
        assert [h.event for h in happened] == ["listening", "opened", "closed"]
        assert (happened[-1].sent, happened[-1].received) == (500_000, 300_007)


async def test_a_port_where_nobody_listens_fails_that_connection_only() -> None:
    async with ssh() as connection, service(b"ok") as port:
        here = free_port()
        bad, good = parse("tcp", f"{here}:{free_port()}")[0], free_port()
        async with forwarding(connection, bad, *parse("tcp", f"{good}:{port}")) as (made, happened):
            reader, _ = await asyncio.open_connection("127.0.0.1", here)
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read(-1) == b""
            await until(lambda: made.traffic[0].failed == 1)
            assert [h.event for h in happened][-1] == "failed"
            reader, writer = await asyncio.open_connection("127.0.0.1", good)
            writer.write_eof()
            assert await reader.read(-1) == b"0 ok"


async def test_a_local_port_that_is_taken_is_told_by_name_and_none_is_kept() -> None:
    async with ssh() as connection:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            first, second = free_port(), taken.getsockname()[1]
            forwards = [*parse("tcp", str(first)), *parse("tcp", str(second))]
            with pytest.raises(Failure, match=rf"cannot listen on 127.0.0.1:{second} \(tcp\)"):
                await PortForwarding(connection, lambda _: None).start(forwards)
        with socket.create_server(("127.0.0.1", first)):
            pass


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(b"re:" + data, addr)


async def test_datagrams_of_several_senders_find_their_way_back() -> None:
    loop = asyncio.get_running_loop()
    echo, _ = await loop.create_datagram_endpoint(Echo, ("127.0.0.1", 0))
    port, here = echo.get_extra_info("sockname")[1], free_port(socket.SOCK_DGRAM)
    async with ssh() as connection:
        async with forwarding(connection, *parse("udp", f"{here}:{port}")) as (made, _):
            senders = []
            for _ in range(3):
                sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                sock.setblocking(False)
                sock.connect(("127.0.0.1", here))
                senders.append(sock)
            for turn in range(2):
                for number, sock in enumerate(senders):
                    message = b"%d/%d" % (number, turn)
                    await loop.sock_sendall(sock, message)
                    async with asyncio.timeout(DEADLINE_S):
                        assert await loop.sock_recv(sock, 100) == b"re:" + message
            for sock in senders:
                sock.close()
        (traffic,) = made.traffic
        assert (traffic.total, traffic.failed, traffic.sent, traffic.received) == (3, 0, 18, 36)
    echo.close()


async def test_datagrams_without_bytes_go_both_ways() -> None:
    loop, here = asyncio.get_running_loop(), free_port(socket.SOCK_DGRAM)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as service,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        for sock in (service, sender):
            sock.setblocking(False)
        service.bind(("127.0.0.1", 0))
        sender.connect(("127.0.0.1", here))
        port = service.getsockname()[1]
        async with (
            asyncio.timeout(DEADLINE_S),
            ssh() as connection,
            forwarding(connection, *parse("udp", f"{here}:{port}")),
        ):
            sender.send(b"")
            asked, source = await loop.sock_recvfrom(service, 100)
            service.sendto(b"", source)
            assert (asked, await loop.sock_recv(sender, 100)) == (b"", b"")


async def test_datagrams_that_policy_refuses_say_so() -> None:
    here = free_port(socket.SOCK_DGRAM)
    async with (
        ssh(refused) as connection,
        forwarding(connection, *parse("udp", str(here))) as (made, happened),
    ):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"x", ("127.0.0.1", here))
        await until(lambda: made.traffic[0].failed == 1)
        assert made.traffic[0].error == "local port forwarding is disabled"
        assert [h.event for h in happened] == ["listening", "failed"]


FORWARD = ForwardSpec("tcp", "127.0.0.1", 8080, "db", 5432)


def test_a_script_reads_one_object_a_line() -> None:
    lines: list[str] = []
    view = JsonLines(lines.append)
    view.happened(Happened("listening", FORWARD))
    view.happened(Happened("closed", FORWARD, "127.0.0.1:9", sent=1, received=2, duration_s=0.5))
    view.happened(Happened("failed", FORWARD, "127.0.0.1:9", "Connection refused"))
    view.path(Carried(2, ConnectionMethod.DIRECT, "10.0.0.1:9", 1.5))
    view.path(Stalled(0.0, "no answer"))
    traffic = Traffic(FORWARD, open=1, total=2, failed=0, sent=3, received=4)
    view.refresh([traffic])
    view.refresh([traffic])  # nothing passed
    view.close()
    where = {"protocol": "tcp", "local": "127.0.0.1:8080", "remote": "db:5432"}
    assert [json.loads(text) for text in lines] == [
        {"event": "listening", **where},
        {
            "event": "closed",
            **where,
            "peer": "127.0.0.1:9",
            "sent_bytes": 1,
            "received_bytes": 2,
            "duration_s": 0.5,
        },
        {"event": "failed", **where, "peer": "127.0.0.1:9", "error": "Connection refused"},
        {"event": "path", "method": "direct", "where": "10.0.0.1:9", "gap_s": 1.5},
        {"event": "waiting", "reason": "no answer"},
        {
            "event": "traffic",
            **where,
            "open": 1,
            "total": 2,
            "failed": 0,
            "sent_bytes": 3,
            "received_bytes": 4,
        },
    ]


def test_a_log_reads_what_listens_and_what_went_wrong() -> None:
    lines: list[str] = []
    view = PlainLines(lines.append)
    view.happened(Happened("listening", FORWARD))
    view.happened(Happened("opened", FORWARD, "127.0.0.1:9"))
    view.happened(Happened("failed", FORWARD, "127.0.0.1:9", "Connection\x1b refused"))
    view.path(Stalled(0.0, "no answer"))
    view.refresh([])
    view.close()
    assert lines == [
        "tcp 127.0.0.1:8080 leads to db:5432",
        "tcp 127.0.0.1:8080: Connection  refused",
    ]
