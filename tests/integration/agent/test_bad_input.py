"""What nobody sends by accident: a clear error to the client, an attributed end, others undisturbed."""

from __future__ import annotations

import asyncio
import os
import resource
from pathlib import Path

import asyncssh
import pytest
from asyncssh.packet import Boolean, String, UInt32

from tests.support.agent.agent_rig import AgentRig
from tether.agent.forwarding.callbacks import MAX_CHANNELS
from tether.attribution import evidence as ev

Client = asyncssh.SSHClientConnection
OPEN, OPEN_FAILURE = 90, 92


async def works(client: Client) -> bool:
    return (await client.run("echo here")).stdout == "here\n"


async def test_ten_thousand_channels_are_too_many_and_the_others_go_on(agent: AgentRig) -> None:
    async with await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with await agent.connect() as other, await agent.connect() as client:
            refused = 0
            running = await other.create_process("cat")
            for _ in range(10):
                opening = [client.open_connection("127.0.0.1", port) for _ in range(1000)]
                done = await asyncio.gather(*opening, return_exceptions=True)
                refused += sum(isinstance(answer, asyncssh.ChannelOpenError) for answer in done)
            assert refused >= 10_000 - MAX_CHANNELS - 1
            running.stdin.write("still here\n")
            assert await running.stdout.readline() == "still here\n"
            assert await works(other)


@pytest.mark.parametrize(
    ("window", "packet"), [(0, 0), (0xFFFFFFFF, 0xFFFFFFFF), (1, 1), (0xFFFFFFFF, 1)]
)
async def test_absurd_windows_and_packet_sizes_disturb_nobody(
    agent: AgentRig, client: Client, window: int, packet: int
) -> None:
    for kind in (b"session", b"no-such-kind"):
        client.send_packet(OPEN, String(kind), UInt32(900), UInt32(window), UInt32(packet))
    async with await agent.connect() as other:
        assert await works(other)


@pytest.mark.parametrize("name", ["no-such-request@example.com", "pty-req", "x11-req", "exec"])
async def test_a_malformed_channel_request_is_the_clients_fault_or_refused(
    agent: AgentRig, name: str
) -> None:
    async with await agent.connect() as other:
        client = await agent.connect()
        process = await client.create_process("cat")
        number = process.channel._send_chan
        assert number is not None
        client.send_packet(98, UInt32(number), String(name), Boolean(True), b"\xff\xff\xff\xff")
        client.close()
        assert await agent.cause() in ("client.protocol_error", "client.closed")
        assert await works(other)


@pytest.mark.parametrize("path", ["/tmp/new\nline", "/tmp/a\0b", "\0", "", "x" * 300])
async def test_a_socket_path_that_cannot_be_is_refused_and_no_more(
    client: Client, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(asyncssh.ChannelOpenError):
        await client.open_unix_connection(path)
    assert await works(client)


async def test_without_free_descriptors_a_session_says_so_and_the_others_go_on(
    agent: AgentRig, client: Client
) -> None:
    running = await client.create_process("cat")
    highest = max(int(name) for name in os.listdir("/dev/fd"))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    fillers = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, before[1]))
    try:
        while True:
            try:
                fillers.append(os.dup(0))
            except OSError:
                break
        done = await client.run("true")
        assert done.exit_status == 229
        assert "Too many open files" in str(done.stderr)
        running.stdin.write("still here\n")
        assert await running.stdout.readline() == "still here\n"
    finally:
        for filler in fillers:
            os.close(filler)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert await works(client)
    client.close()
    facts = (await agent.end()).cell.facts
    assert 229 in [fact.exit_code for fact in facts if isinstance(fact, ev.SessionEnded)]


async def test_a_command_as_long_as_can_be_is_run_or_refused_in_words(client: Client) -> None:
    done = await client.run("true " + "x" * 100_000)
    assert done.exit_status == 0
    done = await client.run("true " + "x" * 200_000)  # the kernel's limit for one word is 128 KiB
    assert done.exit_status == 229
    assert "too long" in str(done.stderr)
    assert await works(client)
