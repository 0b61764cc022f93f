"""What an agent counts: each session, error, forward and end once, in series that no client can make."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import asyncssh
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.agent.agent_rig import AgentRig, agent_rig, line_of
from tether.agent.commands.policy import TransferPolicy
from tether.agent.debug_http import listen_address
from tether.agent.metrics import AgentMetrics
from tether.agent.process.environment import Account
from tether.net.transport.tcp import NoAddress
from tether.protocol.messages.reports import ForwardRecord, ForwardRollup

Client = asyncssh.SSHClientConnection
Samples = dict[tuple[str, ...], float]


def told(metrics: AgentMetrics, name: str) -> Samples:
    """What is not 0 of one metric: the labels' values in the order of their names."""
    return {
        tuple(sample.labels[label] for label in sorted(sample.labels)): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
        if sample.name == f"tether_agent_{name}" and sample.value
    }


def one(value: float) -> Samples:
    return {(): value}


async def test_sessions_are_counted_as_they_end_by_app_type_and_terminal(agent: AgentRig) -> None:
    metrics = agent.server.metrics
    async with await agent.connect() as client:
        for command, app in (("true", "cursor"), ("true", "made-up"), ("scp -t /nowhere/x", "")):
            env = {"TETHER_SSH_SESSION_TYPE": app} if app else {}
            await client.run(command, env=env, stdin=asyncssh.DEVNULL)
        await client.run("exit 3", term_type="xterm")
        async with client.start_sftp_client() as sftp:
            await sftp.listdir(".")
        process = await client.create_process("cat")
        assert told(metrics, "sessions_open") == {("ssh",): 1}
        assert told(metrics, "connections_open") == {("derp",): 1}
        process.stdin.write_eof()
        await process.wait()
    await agent.end()
    assert told(metrics, "sessions_total") == {
        ("cursor", "false", "vscode"): 1,
        ("other", "false", "ssh"): 1,
        ("ssh", "false", "sftp"): 1,
        ("ssh", "true", "ssh"): 1,
        ("ssh", "false", "ssh"): 2,
    }
    assert told(metrics, "sftp_sessions_total") == one(1)
    assert told(metrics, "sessions_open") == told(metrics, "connections_open") == {}


async def test_what_goes_wrong_with_a_session_is_counted_by_what_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(11, "Resource temporarily unavailable")

    policy = TransferPolicy(block_file_transfer=True)
    async with agent_rig(tmp_path, policy=policy) as agent:
        async with await agent.connect() as client:
            await client.run("rsync --server . there")
            monkeypatch.setattr(os, "posix_spawn", full)
            await client.run("true")
        await agent.end()
        assert told(agent.server.metrics, "session_errors_total") == {
            ("start_command", "false", "ssh"): 1,
            ("blocked", "false", "ssh"): 1,
        }


async def test_each_end_of_a_connection_is_counted_with_its_fields(agent: AgentRig) -> None:
    async with await agent.connect() as client:
        await client.run("exit 3")
    await agent.end()
    assert told(agent.server.metrics, "disconnects_total") == {
        ("agent_to_client", "true", "client", "connection", "graceful"): 1
    }


async def test_a_connection_that_nobody_was_let_in_on_has_failed(agent: AgentRig) -> None:
    stranger = asyncssh.generate_private_key("ssh-ed25519")
    assert line_of(stranger) != agent.announced
    with pytest.raises(asyncssh.PermissionDenied):
        await agent.connect(client_keys=[stranger])
    await agent.end()
    assert told(agent.server.metrics, "ssh_failed_connections_total") == one(1)
    async with await agent.connect():
        pass
    await agent.end()
    assert told(agent.server.metrics, "ssh_failed_connections_total") == one(1)


async def test_forwarded_connections_are_counted_one_by_one_and_rolled_up(agent: AgentRig) -> None:
    async with await agent.connect() as client:
        with pytest.raises(asyncssh.ChannelOpenError):
            await client.open_unix_connection("/no/such/socket")
    await agent.end()
    assert told(agent.server.metrics, "forwards_total") == {("direct_streamlocal", "refused"): 1}
    metrics = AgentMetrics()
    record = ForwardRecord(
        connection_id="c", forward_id=1, kind="direct_tcpip", destination="d", started_at=1.0
    )
    metrics.forwarded(record)
    metrics.forwarded(
        ForwardRollup(
            connection_id="c",
            kind="direct_tcpip",
            destination="d",
            since=1.0,
            until=2.0,
            ends={"client_closed": 7, "refused": 2},
        )
    )
    assert told(metrics, "forwards_total") == {
        ("direct_tcpip", "client_closed"): 7,
        ("direct_tcpip", "refused"): 2,
    }


async def test_a_session_without_a_display_is_counted_with_why(tmp_path: Path) -> None:
    account = Account("worker", "/dev/null", "/bin/sh")
    async with agent_rig(tmp_path, account=account) as agent, await agent.connect() as client:
        await client.run("true", x11_forwarding="ignore_failure", x11_display="127.0.0.1:1")
        assert told(agent.server.metrics, "x11_errors_total") == {("xauthority",): 1}


async def test_series_begin_at_zero_and_stay_as_many(agent: AgentRig) -> None:
    def series() -> int:
        return agent.server.metrics.render().count(b"\n")

    before = series()
    async with await agent.connect() as client:
        await client.run("true", env={"TETHER_SSH_SESSION_TYPE": "first"})
        await client.run("true", env={"TETHER_SSH_SESSION_TYPE": "second"})
        await asyncio.sleep(0)
    await agent.end()
    assert series() - before <= 6  # `other`, and the connection's end: with their times of birth


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9464", ("127.0.0.1", 9464)),
        ("127.8.8.8:0", ("127.8.8.8", 0)),
        ("[::1]:1", ("::1", 1)),
        ("localhost:1", ("localhost", 1)),
    ],
)
def test_metrics_are_told_on_loopback(text: str, address: tuple[str, int]) -> None:
    assert listen_address(text) == address


@pytest.mark.parametrize(
    "text", ["", "9464", ":9464", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:65536", "0.0.0.0:1",
             "10.0.0.1:1", "[::]:1", "example.com:1"]
)  # fmt: skip
def test_metrics_are_told_nowhere_else(text: str) -> None:
    with pytest.raises(NoAddress):
        listen_address(text)
