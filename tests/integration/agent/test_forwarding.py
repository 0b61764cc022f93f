"""Forwarded ports and sockets in both directions, and what cannot be forwarded."""

from __future__ import annotations

import asyncio
import os
import shutil
import struct
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from asyncssh.x11 import walk_xauth

from tests.support.agent.agent_rig import AgentRig, agent_rig
from tether.agent.process.environment import Account
from tether.agent.ssh import connection as ssh_connection
from tether.protocol.messages.reports import ForwardRecord

Client = asyncssh.SSHClientConnection
needs_ssh = pytest.mark.skipif(shutil.which("ssh") is None, reason="no OpenSSH client")


async def shouting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write((await reader.read(100)).upper())
    await writer.drain()
    writer.close()


async def shouts(opening: Awaitable[tuple[Any, Any]]) -> bool:
    reader, writer = await opening
    writer.write(b"hello")
    answer = await reader.read()
    writer.close()
    return bool(answer == b"HELLO")


async def test_local_ports_are_forwarded(client: Client) -> None:
    async with await asyncio.start_server(shouting, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await shouts(client.open_connection("127.0.0.1", port))


async def test_local_sockets_are_forwarded(agent: AgentRig, client: Client) -> None:
    path = str(agent.directory / "s")
    async with await asyncio.start_unix_server(shouting, path):
        assert await shouts(client.open_unix_connection(path))


async def test_remote_ports_are_forwarded(client: Client) -> None:
    async with await asyncio.start_server(shouting, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        remote = await client.forward_remote_port("127.0.0.1", 0, "127.0.0.1", port)
        assert await shouts(asyncio.open_connection("127.0.0.1", remote.get_port()))


async def test_a_port_is_its_holders_as_long_as_that_is_there(agent: AgentRig) -> None:
    async with await agent.connect() as first, await agent.connect() as second:
        remote = await first.forward_remote_port("127.0.0.1", 0, "127.0.0.1", 1)
        with pytest.raises(asyncssh.ChannelListenError):
            await second.forward_remote_port("127.0.0.1", remote.get_port(), "127.0.0.1", 1)


async def test_a_client_that_is_gone_gives_its_port_to_who_asks(
    agent: AgentRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh_connection, "ANSWER_S", 0.2)
    async with await asyncio.start_server(shouting, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        gone = await agent.connect()
        remote = await gone.forward_remote_port("127.0.0.1", 0, "127.0.0.1", port)
        agent.cables[0].go_silent()  # its battery is empty: nothing says so
        async with await agent.connect() as second:
            await second.forward_remote_port("127.0.0.1", remote.get_port(), "127.0.0.1", port)
            assert await shouts(asyncio.open_connection("127.0.0.1", remote.get_port()))
            agent.cables[0].heal()  # after all: it has lost its port, and nothing else
            assert (await gone.run("echo here")).stdout == "here\n"
            remote.close()
            await remote.wait_closed()
            assert (await gone.run("echo here")).stdout == "here\n"
            assert await shouts(asyncio.open_connection("127.0.0.1", remote.get_port()))
        gone.close()


async def test_remote_sockets_are_forwarded(agent: AgentRig, client: Client) -> None:
    path, far = str(agent.directory / "s"), str(agent.directory / "far")
    async with await asyncio.start_unix_server(shouting, path):
        await client.forward_remote_path(far, path)
        assert await shouts(asyncio.open_unix_connection(far))


async def parting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"bye")
    writer.close()


@pytest.mark.parametrize("first", ["destination", "client"])
async def test_a_forward_is_over_when_both_directions_are(client: Client, first: str) -> None:
    serve = parting if first == "destination" else shouting
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await client.open_connection("127.0.0.1", port)
        if first == "destination":
            assert await reader.read() == b"bye"
            writer.write_eof()
        else:
            writer.write(b"hello")
            writer.write_eof()
            assert await reader.read() == b"HELLO"
        await writer.channel.wait_closed()


async def test_a_remote_forward_is_over_when_both_directions_are(client: Client) -> None:
    async with await asyncio.start_server(parting, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        remote = await client.forward_remote_port("127.0.0.1", 0, "127.0.0.1", port)
        reader, writer = await asyncio.open_connection("127.0.0.1", remote.get_port())
        assert await reader.read() == b"bye"
        writer.write_eof()
        while client._channels:
            await asyncio.sleep(0)
        writer.close()


@needs_ssh
async def test_stock_ssh_forwards_standard_input_and_output(agent: AgentRig) -> None:
    async with await asyncio.start_server(shouting, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        argv = agent.ssh_argv("-W", f"127.0.0.1:{port}", "127.0.0.1")
        assert await agent.run(*argv, input=b"hello") == (0, b"HELLO", b"")


@pytest.mark.parametrize("host", ["a..b", "x" * 80 + ".example", "\0", "no-such-host.invalid"])
async def test_a_host_that_cannot_exist_is_a_refused_forward_and_no_more(
    client: Client, host: str
) -> None:
    with pytest.raises(asyncssh.ChannelOpenError):
        await client.open_connection(host, 80)
    assert (await client.run("echo here")).stdout == "here\n"


async def test_a_port_that_cannot_exist_is_a_refused_forward_and_no_more(client: Client) -> None:
    with pytest.raises(asyncssh.ChannelOpenError):
        await client.open_connection("127.0.0.1", 70_000)
    with pytest.raises(asyncssh.ChannelOpenError):
        await client.open_unix_connection("/no/such/socket")
    with pytest.raises(asyncssh.ChannelListenError):
        await client.forward_remote_port("127.0.0.1", 70_000, "127.0.0.1", 1)
    with pytest.raises(asyncssh.ChannelListenError):
        await client.forward_remote_path("/dev/null/socket", "/nowhere")
    assert (await client.run("echo here")).stdout == "here\n"


async def without_keys(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An ssh-agent that answers SSH_AGENT_FAILURE to everything."""
    while await reader.read(1000):
        writer.write(b"\0\0\0\x01\x05")


async def test_what_a_forwarded_agent_is_asked_is_counted(agent: AgentRig) -> None:
    path = str(agent.directory / "a")
    async with (
        await asyncio.start_unix_server(without_keys, path),
        await agent.connect(agent_path=path, agent_forwarding=True) as client,
    ):
        process = await client.create_process('echo "$SSH_AUTH_SOCK"; cat')
        there = str(await process.stdout.readline()).strip()
        reader, writer = await asyncio.open_unix_connection(there)
        writer.write(b"\0\0\0\x01\x0b")  # which keys are there?
        assert await reader.readexactly(5) == b"\0\0\0\x01\x05"
        writer.close()
    await agent.end()
    first, last = (item for item in agent.items if isinstance(item, ForwardRecord))
    assert (first.kind, first.ended_at) == ("agent", None)
    assert (last.rx_bytes, last.tx_bytes) == (5, 5)
    assert last.end in ("workspace_closed", "connection_ended")


async def test_a_forwarded_agent_is_there_for_who_asked(agent: AgentRig) -> None:
    path = str(agent.directory / "a")
    async with (
        await asyncio.start_unix_server(without_keys, path),
        await agent.connect(agent_path=path, agent_forwarding=True) as client,
    ):
        done = await client.run('test -S "$SSH_AUTH_SOCK" && echo "$SSH_AUTH_SOCK"')
        there = str(done.stdout).strip()
        assert there
    await agent.end()
    assert not os.path.exists(there)
    assert [item for item in agent.items if isinstance(item, ForwardRecord)] == []
    async with await agent.connect() as client:
        assert (await client.run('echo "$SSH_AUTH_SOCK"')).stdout == "\n"


def x11_greeting(name: bytes, data: bytes) -> bytes:
    """How a program says hello to a display (X11 protocol, section 8)."""
    words = (word + b"\0" * (-len(word) % 4) for word in (name, data))
    return struct.pack("<cxHHHHxx", b"l", 11, 0, len(name), len(data)) + b"".join(words)


async def test_a_program_in_the_workspace_draws_on_the_clients_display(agent: AgentRig) -> None:
    greeted: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def display(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        greeted.set_result(await reader.readexactly(12))
        writer.write(b"welcome")
        writer.close()

    async with (
        await asyncio.start_server(display, "127.0.0.1", 0) as server,
        await agent.connect() as client,
    ):
        number = server.sockets[0].getsockname()[1] - 6000
        process = await client.create_process(
            "echo $DISPLAY; cat", x11_forwarding=True, x11_display=f"127.0.0.1:{number}"
        )
        host, _, far = str(await process.stdout.readline()).strip().partition(":")
        assert host == "localhost"
        (cookie,) = walk_xauth(str(agent.directory / "home" / ".Xauthority"))
        reader, writer = await asyncio.open_connection(host, 6000 + int(far.partition(".")[0]))
        writer.write(x11_greeting(cookie.proto, cookie.data))
        assert await reader.read() == b"welcome"
        assert (await greeted)[:4] == b"l\0\x0b\0"
        writer.close()
        process.stdin.write_eof()
        await process.wait()
    await agent.end()
    _, record = (item for item in agent.items if isinstance(item, ForwardRecord))
    assert (record.kind, record.destination, record.rx_bytes) == ("x11", "x11", len(b"welcome"))
    assert record.tx_bytes == len(x11_greeting(cookie.proto, cookie.data))
    assert record.end in ("client_closed", "workspace_closed")


async def test_a_display_whose_cookie_cannot_be_kept_is_refused_and_no_more(
    tmp_path: Path,
) -> None:
    account = Account("worker", "/dev/null", "/bin/sh")
    async with agent_rig(tmp_path, account=account) as agent, await agent.connect() as client:
        with pytest.raises(asyncssh.ChannelOpenError):
            await client.run("true", x11_forwarding=True, x11_display="127.0.0.1:1")
        assert (await client.run("echo here")).stdout == "here\n"
