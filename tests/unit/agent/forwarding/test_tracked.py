"""Claims about forwarded connections through a real asyncssh server and client on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh
import pytest

from tests.support.agent.listening import listening
from tests.support.deadline import DEADLINE_S
from tether.agent.commands.policy import TransferPolicy
from tether.agent.forwarding.forwards import Forwards
from tether.agent.forwarding.listeners import Listeners
from tether.agent.forwarding.tracked import (
    connect_tcp,
    connect_unix,
    listen_tcp,
    listen_unix,
)
from tether.agent.ide.port_inspection import PortInspector
from tether.agent.ide.watcher import IdeWatcher
from tether.attribution import evidence as ev
from tether.attribution.disconnect import CloseCell
from tether.attribution.vocabulary import Party, StreamEnd, Vantage
from tether.net.clock import SystemClock
from tether.protocol.messages.reports import ForwardItem, ForwardRecord, IdeSessionRecord


class Server(asyncssh.SSHServer):
    """The callbacks as an agent's would be."""

    def __init__(self, rig: ForwardRig) -> None:
        self._rig = rig

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._conn = self._rig.server_conn = conn
        self._forwards = self._rig.forwards = Forwards(
            "c1",
            client="alice",
            cell=self._rig.cell,
            clock=SystemClock(),
            cause=lambda: "",
            policy=self._rig.policy,
            ide=self._rig.ide,
            on_item=self._rig.items.put_nowait,
            listeners=Listeners(),
            answers=self._answers,
        )

    async def _answers(self) -> bool:
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._forwards.finish()

    def begin_auth(self, username: str) -> bool:
        return False

    async def connection_requested(  # type: ignore[override]
        self, dest_host: str, dest_port: int, orig_host: str, orig_port: int
    ) -> object:
        return await connect_tcp(
            self._forwards, dest_host, dest_port, origin=(orig_host, orig_port)
        )

    async def unix_connection_requested(self, dest_path: str) -> object:  # type: ignore[override]
        return await connect_unix(self._forwards, dest_path)

    async def server_requested(self, listen_host: str, listen_port: int) -> object:  # type: ignore[override]
        return await listen_tcp(self._forwards, self._conn, listen_host, listen_port) or False

    async def unix_server_requested(self, listen_path: str) -> object:  # type: ignore[override]
        return await listen_unix(self._forwards, self._conn, listen_path) or False


@dataclass
class ForwardRig:
    policy: TransferPolicy = field(default_factory=TransferPolicy)
    cell: CloseCell = field(default_factory=CloseCell)
    items: asyncio.Queue[ForwardItem] = field(default_factory=asyncio.Queue)
    forwards: Forwards | None = None
    ide: IdeWatcher | None = None
    server_conn: asyncssh.SSHServerConnection | None = None

    async def following(self) -> ForwardRecord:
        item = await asyncio.wait_for(self.items.get(), DEADLINE_S)
        assert isinstance(item, ForwardRecord)
        return item


@contextlib.asynccontextmanager
async def connected(rig: ForwardRig) -> AsyncIterator[asyncssh.SSHClientConnection]:
    key = asyncssh.generate_private_key("ssh-ed25519")
    listener = await asyncssh.listen(
        "127.0.0.1", 0, server_host_keys=[key], server_factory=lambda: Server(rig)
    )
    try:
        async with asyncssh.connect(
            "127.0.0.1", listener.get_port(), known_hosts=None, client_keys=None, config=None
        ) as conn:
            yield conn
    finally:
        listener.close()
        await listener.wait_closed()


@contextlib.asynccontextmanager
async def echo(path: str = "") -> AsyncIterator[int]:
    """A server that says back what it hears, and hangs up at the end of it; or when told `bye`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (data := await reader.read(4096)) and data != b"bye":
            writer.write(data)
        writer.close()

    if path:
        server: asyncio.Server = await asyncio.start_unix_server(serve, path)
    else:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield 0 if path else server.sockets[0].getsockname()[1]
    finally:
        server.close()


@pytest.mark.parametrize("asked", ["127.0.0.1", "localhost"])
async def test_a_program_that_listens_in_the_other_family_is_found(asked: str) -> None:
    rig = ForwardRig()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    server = await asyncio.start_server(serve, "::1", 0)
    async with server, connected(rig) as conn:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await conn.open_connection(asked, port)
        assert await reader.read() == b"hello"
        writer.close()


async def test_a_local_forward_is_counted_and_its_user_closes_it() -> None:
    rig = ForwardRig()
    async with echo() as port, connected(rig) as conn:
        reader, writer = await conn.open_connection("127.0.0.1", port)
        begun = await rig.following()
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        writer.close()
        ended = await rig.following()
    assert (begun.kind, begun.destination, begun.end) == (
        "direct_tcpip",
        f"127.0.0.1:{port}",
        "",
    )
    assert (ended.forward_id, ended.end, ended.rx_bytes, ended.tx_bytes) == (
        begun.forward_id,
        "client_closed",
        5,
        5,
    )
    assert [fact.kind for fact in rig.cell.facts] == ["forward_served"]


async def test_a_program_that_hangs_up_is_told_from_a_client_that_does() -> None:
    rig = ForwardRig()
    async with echo() as port, connected(rig) as conn:
        reader, writer = await conn.open_connection("127.0.0.1", port)
        await rig.following()
        writer.write(b"bye")
        assert await reader.read() == b""
        writer.close()
        assert (await rig.following()).end == "workspace_closed"


async def test_half_closed_connections_carry_on_as_before() -> None:
    rig = ForwardRig()
    async with echo() as port, connected(rig) as conn:
        reader, writer = await conn.open_connection("127.0.0.1", port)
        writer.write(b"x" * 300_000)
        writer.write_eof()
        assert len(await reader.read()) == 300_000
        await rig.following()
        ended = await rig.following()
    assert (ended.end, ended.rx_bytes, ended.tx_bytes) == ("client_closed", 300_000, 300_000)


async def test_nothing_there_is_refused_and_recorded() -> None:
    rig = ForwardRig()
    async with connected(rig) as conn:
        with pytest.raises(asyncssh.ChannelOpenError):
            await conn.open_connection("127.0.0.1", 1)
        ended = await rig.following()
        with pytest.raises(asyncssh.ChannelOpenError):
            await conn.open_connection("127.0.0.1", 70_000)
        impossible = await rig.following()
    assert (ended.end, ended.destination) == ("refused", "127.0.0.1:1")
    assert "onnect call failed" in ended.detail or "refused" in ended.detail.lower()
    assert (impossible.end, impossible.detail) == ("refused", "there is no port 70000")
    assert rig.cell.facts == ()


async def test_a_connection_that_ends_ends_its_forwards() -> None:
    rig = ForwardRig()
    async with echo() as port, connected(rig) as conn:
        await conn.open_connection("127.0.0.1", port)
        await rig.following()
        rig.cell.offer(
            ev.StreamEnded(vantage=Vantage.RELAY, at=1.0, peer=Party.CLIENT, how=StreamEnd.SILENT)
        )
        assert rig.server_conn is not None
        rig.server_conn.abort()
        assert (await rig.following()).end == "connection_ended"


async def test_a_local_socket_is_carried(tmp_path: Path) -> None:
    path, rig = str(tmp_path / "s"), ForwardRig()
    async with echo(path), connected(rig) as conn:
        reader, writer = await conn.open_unix_connection(path)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        writer.close()
        begun, ended = await rig.following(), await rig.following()
    assert (begun.kind, begun.destination) == ("direct_streamlocal", path)
    assert (ended.rx_bytes, ended.tx_bytes) == (5, 5)


async def test_a_remote_port_is_carried() -> None:
    rig = ForwardRig()
    async with echo() as port, connected(rig) as conn:
        listener = await conn.forward_remote_port("127.0.0.1", 0, "127.0.0.1", port)
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.get_port())
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        begun = await rig.following()
        writer.close()
        ended = await rig.following()
        listener.close()
        await listener.wait_closed()
    assert (begun.kind, begun.destination) == (
        "forwarded_tcpip",
        f"127.0.0.1:{listener.get_port()}",
    )
    assert begun.origin.startswith("127.0.0.1:")
    assert (ended.end, ended.rx_bytes, ended.tx_bytes) == ("workspace_closed", 5, 5)


async def test_a_remote_socket_is_carried(tmp_path: Path) -> None:
    rig, path = ForwardRig(), str(tmp_path / "r")
    async with echo() as port, connected(rig) as conn:
        listener = await conn.forward_remote_path_to_port(path, "127.0.0.1", port)
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        writer.close()
        begun, ended = await rig.following(), await rig.following()
        listener.close()
        await listener.wait_closed()
    assert (begun.kind, begun.destination) == ("forwarded_streamlocal", path)
    assert (ended.end, ended.rx_bytes, ended.tx_bytes) == ("workspace_closed", 5, 5)


async def test_what_is_in_a_sockets_way_goes_unless_it_is_a_folder(tmp_path: Path) -> None:
    rig = ForwardRig()
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    async with echo() as port, connected(rig) as conn:
        for name in ("file", "new/deep/socket"):
            listener = await conn.forward_remote_path_to_port(
                str(tmp_path / name), "127.0.0.1", port
            )
            assert (tmp_path / name).is_socket()
            listener.close()
            await listener.wait_closed()
        with pytest.raises(asyncssh.ChannelListenError):
            await conn.forward_remote_path_to_port(str(tmp_path / "folder"), "127.0.0.1", port)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("host", ["a" * 300, "..", "x\0y"])
async def test_a_host_that_cannot_exist_is_refused_and_the_connection_lives(host: str) -> None:
    rig = ForwardRig(policy=TransferPolicy(gateway_ports=True))
    async with echo() as port, connected(rig) as conn:
        with pytest.raises(asyncssh.ChannelOpenError):
            await conn.open_connection(host, 80)
        assert (await rig.following()).end == "refused"
        with pytest.raises(asyncssh.ChannelListenError):
            await conn.forward_remote_port(host, 0, "127.0.0.1", port)
        with pytest.raises(asyncssh.ChannelListenError):
            await conn.forward_remote_path_to_port("a\0b", "127.0.0.1", port)
        await conn.open_connection("127.0.0.1", port)
        assert (await rig.following()).end == ""


async def test_policy_refuses_with_a_word_and_leaves_evidence() -> None:
    rig = ForwardRig(
        policy=TransferPolicy(block_local_forwarding=True, block_remote_forwarding=True)
    )
    async with echo() as port, connected(rig) as conn:
        with pytest.raises(asyncssh.ChannelOpenError, match="local port forwarding is disabled"):
            await conn.open_connection("127.0.0.1", port)
        blocked = await rig.following()
        with pytest.raises(asyncssh.ChannelListenError):
            await conn.forward_remote_port("127.0.0.1", 0, "127.0.0.1", port)
        unheard = await rig.following()
    assert (blocked.end, blocked.cause) == ("blocked", "policy.local_forwarding_blocked")
    assert (unheard.end, unheard.cause) == ("blocked", "policy.remote_forwarding_blocked")
    assert [fact.kind for fact in rig.cell.facts] == ["policy_refused", "policy_refused"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
@pytest.mark.parametrize("how", ["backend dies", "user closes"])
async def test_the_channels_to_a_backend_are_one_ide_session(how: str) -> None:
    clock, records = SystemClock(), asyncio.Queue[IdeSessionRecord]()
    inspector = PortInspector(clock=clock)
    rig = ForwardRig(ide=IdeWatcher(inspector, clock=clock, on_record=records.put_nowait))
    with listening("127.0.0.1", "-Didea.vendor.name=JetBrains") as backend:
        async with connected(rig) as conn:
            writers = [(await conn.open_connection("127.0.0.1", backend.port))[1] for _ in range(3)]
            begun = await asyncio.wait_for(records.get(), DEADLINE_S)
            assert rig.ide is not None
            await rig.ide._tasks.wait(DEADLINE_S)  # it looks behind each channel while that runs
            if how == "backend dies":
                backend.kill()
                ended = await asyncio.wait_for(records.get(), DEADLINE_S)
            else:
                rig.cell.offer(
                    ev.SshDisconnected(
                        vantage=Vantage.AGENT, at=1, by=Party.CLIENT, code=11, open_sessions=0
                    )
                )
                for writer in writers:
                    writer.close()
        if how == "user closes":
            ended = await asyncio.wait_for(records.get(), DEADLINE_S)
    assert (begun.backend_pid, begun.session_id) == (backend.pid, ended.session_id)
    assert records.empty()
    assert ended.channels_total == 3
    last = ended.facts[-1].kind
    assert last == ("ide_backend_gone" if how == "backend dies" else "ssh_disconnected")
    assert ended.caused_by == ("" if how == "backend dies" else "c1")
    await rig.ide.close()
    inspector.close()
