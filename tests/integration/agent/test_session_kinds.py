"""Sessions as the record tells them: which app, which files, what policy refused, what greets them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import asyncssh
import pytest
from structlog.testing import capture_logs

from tests.support.agent.agent_rig import AgentRig, agent_rig
from tests.support.agent.listening import listening
from tether.agent.commands.command_line import runner
from tether.agent.commands.policy import TransferPolicy
from tether.agent.ssh.motd import greeting
from tether.attribution import evidence as ev
from tether.attribution.classify import classify
from tether.attribution.vocabulary import ConnectType, Policy
from tether.protocol.messages.reports import FileOperations, ForwardRecord, IdeSessionRecord

Client = asyncssh.SSHClientConnection


def kinds(agent: AgentRig) -> list[tuple[str, str]]:
    return [(record.session_type, record.app) for record in agent.records]


# -- apps ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["TETHER_SSH_SESSION_TYPE", "CODER_SSH_SESSION_TYPE"])
async def test_a_declared_app_is_recorded_and_not_passed_on(
    agent: AgentRig, client: Client, name: str
) -> None:
    done = await client.run("env", env={name: " Cursor\n"})
    assert "SESSION_TYPE" not in str(done.stdout)
    assert kinds(agent) == [("vscode", "cursor")] * 2


async def test_an_editors_script_on_standard_input_makes_its_session_the_editors(
    agent: AgentRig, client: Client
) -> None:
    script = "export VSCODE_AGENT_FOLDER=$HOME/.vscode-server\nexit 3\n"
    done = await client.run("bash", input=script)
    assert done.exit_status == 3
    assert kinds(agent) == [("ssh", "ssh"), ("vscode", "vscode"), ("vscode", "vscode")]
    assert len({record.session_id for record in agent.records}) == 1
    assert +agent.server.metrics.sessions_open == {}


async def test_sessions_are_counted_by_app_and_unknown_names_together(
    agent: AgentRig, client: Client
) -> None:
    for app in ("cursor", "x1", "x2"):
        await client.run("true", env={"TETHER_SSH_SESSION_TYPE": app})
    cat = await client.create_process("cat")
    assert +agent.server.metrics.sessions_open == {"ssh": 1}
    cat.stdin.write_eof()
    await cat.wait()
    assert kinds(agent)[2:4] == [("ssh", "x1")] * 2


# -- files -----------------------------------------------------------------------------------------


async def test_what_an_sftp_session_did_to_files_is_recorded_with_its_end(
    agent: AgentRig, client: Client
) -> None:
    async with client.start_sftp_client() as files:
        await files.mkdir("made")
        await files.rename("made", "moved")
    client.close()
    end = await agent.end()
    (recorded,) = (item for item in agent.items if isinstance(item, FileOperations))
    assert (recorded.connection_id, recorded.session_id, recorded.program, recorded.complete) == (
        end.connection_id,
        agent.records[0].session_id,
        "sftp",
        True,
    )
    made = [(op.act, op.path, op.target) for op in recorded.operations]
    assert ("make_directory", "made", "") in made
    assert ("rename", "made", "moved") in made


# -- policy ----------------------------------------------------------------------------------------


@pytest.fixture
async def strict(tmp_path: Path) -> AsyncIterator[AgentRig]:
    """An agent that allows neither file transfer nor forwarding."""
    policy = TransferPolicy(
        block_file_transfer=True, block_local_forwarding=True, block_remote_forwarding=True
    )
    async with agent_rig(tmp_path, policy=policy) as made:
        yield made


async def test_a_blocked_command_says_so_exits_65_and_is_attributed(strict: AgentRig) -> None:
    async with await strict.connect() as client:
        done = await client.run("scp -t .", encoding=None)
    assert (done.stdout, done.exit_status) == (b"\x02File transfer has been disabled.\n", 65)
    facts = (await strict.end()).cell.facts
    assert [(type(f).__name__, getattr(f, "exit_code", None)) for f in facts[1:3]] == [
        ("PolicyRefused", None),
        ("SessionEnded", 65),
    ]
    assert [r.exit_code for r in strict.records] == [None, 65]


async def test_a_blocked_connection_ends_with_the_policys_cause(strict: AgentRig) -> None:
    async with await strict.connect() as client:
        with pytest.raises((asyncssh.Error, EOFError)):
            await client.start_sftp_client()
    assert (await strict.cause()).startswith("policy.")


async def test_other_commands_run_where_file_transfer_is_blocked(strict: AgentRig) -> None:
    async with await strict.connect() as client:
        assert (await client.run("echo here")).stdout == "here\n"


async def test_blocked_forwards_are_refused_and_recorded(strict: AgentRig) -> None:
    async with await strict.connect() as client:
        with pytest.raises(asyncssh.ChannelOpenError, match="local port forwarding is disabled"):
            await client.open_connection("127.0.0.1", 1)
        with pytest.raises(asyncssh.ChannelListenError):
            await client.forward_remote_port("127.0.0.1", 0, "127.0.0.1", 1)
    facts = (await strict.end()).cell.facts
    assert [f.policy for f in facts if isinstance(f, ev.PolicyRefused)] == [
        Policy.BLOCK_LOCAL_FORWARDING,
        Policy.BLOCK_REMOTE_FORWARDING,
    ]
    records = [item for item in strict.items if isinstance(item, ForwardRecord)]
    assert [(r.kind, r.end) for r in records] == [
        ("direct_tcpip", "blocked"),
        ("forwarded_tcpip", "blocked"),
    ]


# -- forwards are reported -------------------------------------------------------------------------


async def test_a_forward_that_outlives_its_connection_is_reported_before_the_end(
    agent: AgentRig,
) -> None:
    async with await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        client = await agent.connect()
        _, writer = await client.open_connection("127.0.0.1", port)
        writer.write(b"hello")
        await client.run("true")
        client.close()
        end = await agent.end()
    first, last = (item for item in agent.items if isinstance(item, ForwardRecord))
    assert (first.connection_id, first.destination) == (end.connection_id, f"127.0.0.1:{port}")
    assert (last.end, last.rx_bytes) == ("connection_ended", 5)
    assert last.cause == classify(ConnectType.AGENT_TO_CLIENT, end.cell.facts).disconnect.cause


async def test_cancelling_what_was_never_listened_on_ends_nothing(
    agent: AgentRig, client: Client
) -> None:
    for request, arguments in (
        (b"cancel-tcpip-forward", (asyncssh.packet.String("127.0.0.1"), asyncssh.packet.UInt32(9))),
        (b"cancel-streamlocal-forward@openssh.com", (asyncssh.packet.String("/no/such"),)),
    ):
        answer, _ = await client._make_global_request(request, *arguments)
        assert answer == asyncssh.constants.MSG_REQUEST_SUCCESS
    assert (await client.run("echo here")).stdout == "here\n"


async def test_a_socket_asked_for_twice_is_one_listener(agent: AgentRig, client: Client) -> None:
    path = str(agent.directory / "s")
    await client.forward_remote_path(path, "/nowhere")
    answer, _ = await client._make_global_request(
        b"streamlocal-forward@openssh.com", asyncssh.packet.String(path)
    )
    assert answer == asyncssh.constants.MSG_REQUEST_SUCCESS
    assert Path(path).is_socket()


# -- commands and greetings ------------------------------------------------------------------------


async def test_a_script_runs_with_the_interpreter_that_it_names(client: Client) -> None:
    done = await client.run(" #!/usr/bin/env python3\nimport sys; print(sys.argv[0]); sys.exit(4)")
    assert (done.stdout, done.exit_status) == ("-c\n", 4)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("echo #!", ["sh", "-c", "echo #!"]),
        ("#!", ["sh", "-c", "#!"]),
        ("#!'", ["sh", "-c", "#!'"]),
        ("#!/bin/a 'b c'\nd", ["/bin/a", "b c", "-c", "#!/bin/a 'b c'\nd"]),
    ],
)
def test_only_a_first_line_that_names_one_is_a_shebang(command: str, words: list[str]) -> None:
    assert runner(command, "sh") == words


async def test_a_client_may_send_any_signal_of_the_system(client: Client) -> None:
    process = await client.create_process(
        "trap 'exit 7' WINCH; echo ready; while :; do sleep 0.1; done"
    )
    await process.stdout.readline()
    process.send_signal("WINCH")
    assert (await process.wait()).exit_status == 7


async def test_a_process_that_outlives_its_client_is_told_of_when_it_ends(agent: AgentRig) -> None:
    fifo = agent.directory / "fifo"
    os.mkfifo(fifo)
    with capture_logs() as lines:
        client = await agent.connect()
        process = await client.create_process(f"echo here; read line <{fifo}; exit 5")
        await process.stdout.readline()
        client.close()
        await agent.end()
        fifo.write_text("go\n")
        while not (told := [x for x in lines if "process of an ended session" in x["event"]]):
            await asyncio.sleep(0.01)
    assert [(line["exit_code"], line["app"]) for line in told] == [(5, "ssh")]
    began, ended, outlived = agent.records
    assert (began.exit_code, ended.exit_code, outlived.exit_code) == (None, None, 5)
    assert (began.process_ended_at, ended.process_ended_at) == (None, None)
    assert outlived.process_ended_at is not None
    assert (outlived.ended_at, outlived.session_id) == (ended.ended_at, ended.session_id)


async def greeted(tmp_path: Path, *, pty: bool = True, hush: bool = False) -> str:
    motd, announcement = tmp_path / "motd", tmp_path / "announcement"
    motd.write_text("\nWelcome\nback\n\n")
    announcement.write_text("Maintenance at noon")
    async with agent_rig(tmp_path, motd_file=motd, announcement_file=announcement) as agent:
        if hush:
            (tmp_path / "home" / ".hushlogin").touch()
        async with await agent.connect() as client:
            done = await client.run(None, input="exit\n", term_type="xterm" if pty else None)
    return str(done.stdout)


async def test_a_login_shell_on_a_terminal_is_greeted(tmp_path: Path) -> None:
    shown = await greeted(tmp_path)
    assert shown.startswith("Maintenance at noon\r\n\r\nWelcome\r\nback\r\n\r\n")


async def test_hushlogin_silences_the_message_of_the_day_only(tmp_path: Path) -> None:
    shown = await greeted(tmp_path, hush=True)
    assert shown.startswith("Maintenance at noon\r\n\r\n")
    assert "Welcome" not in shown


async def test_a_shell_without_a_terminal_is_not_greeted(tmp_path: Path) -> None:
    assert await greeted(tmp_path, pty=False) == ""


@pytest.mark.parametrize(
    ("announcement", "motd", "shown"),
    [
        (None, None, ""),
        (None, "Welcome\n", "Welcome\r\n\r\n"),
        ("", "Welcome", "Welcome\r\n\r\n"),
        ("Maintenance", None, "Maintenance\r\n\r\n"),
        ("\n\n  Maintenance \n\n\n", "Welcome", "Maintenance\r\n\r\nWelcome\r\n\r\n"),
        ("one\r\ntwo\n", None, "one\r\ntwo\r\n\r\n"),
    ],
)
def test_each_greeting_may_be_missing(
    tmp_path: Path, announcement: str | None, motd: str | None, shown: str
) -> None:
    files: list[Path | None] = []
    for name, text in (("motd", motd), ("announcement", announcement)):
        files.append(None if text is None else tmp_path / name)
        if text is not None:
            (tmp_path / name).write_bytes(text.encode())
    assert greeting(*files, home=str(tmp_path)) == shown.encode()


async def test_a_changed_announcement_is_shown_from_then_on(tmp_path: Path) -> None:
    announcement = tmp_path / "announcement"
    async with (
        agent_rig(tmp_path, announcement_file=announcement) as agent,
        await agent.connect() as client,
    ):
        for text in ("first", "second"):
            announcement.write_text(text)
            done = await client.run(None, input="exit\n", term_type="xterm")
            assert str(done.stdout).startswith(f"{text}\r\n\r\n")


async def test_an_unknown_command_on_a_terminal_is_127(client: Client) -> None:
    assert (await client.run("no-such-command", term_type="xterm")).exit_status == 127


async def test_a_missing_message_of_the_day_is_no_error(tmp_path: Path) -> None:
    files = {"motd_file": tmp_path, "announcement_file": tmp_path / "none"}
    async with agent_rig(tmp_path, **files) as agent, await agent.connect() as client:
        done = await client.run(None, input="exit 3\n", term_type="xterm")
    assert done.exit_status == 3


@pytest.mark.parametrize("directory", ["~/sub", "sub", "$HOME/sub", "${PLACE}/sub"])
async def test_sessions_start_where_the_workspace_says(tmp_path: Path, directory: str) -> None:
    sub = tmp_path / "home" / "sub"
    sub.mkdir(parents=True)
    env = {"PLACE": str(tmp_path / "home")}
    async with (
        agent_rig(tmp_path, directory=directory, env=env) as agent,
        await agent.connect() as client,
    ):
        assert (await client.run("pwd")).stdout == f"{sub}\n"


# -- IDEs ------------------------------------------------------------------------------------------


async def ide_records(agent: AgentRig, count: int) -> list[IdeSessionRecord]:
    """What was reported of IDEs, once there is so much."""
    while len(found := [i for i in agent.items if isinstance(i, IdeSessionRecord)]) < count:
        await asyncio.sleep(0.01)
    return found


async def test_an_ide_ends_with_its_connection_and_names_it(agent: AgentRig) -> None:
    with listening("127.0.0.1", "-Didea.vendor.name=JetBrains") as backend:
        client = await agent.connect()
        await client.open_connection("127.0.0.1", backend.port)
        (begun,) = await ide_records(agent, 1)
        client.close()
        end = await agent.end()
        _, over = await ide_records(agent, 2)
    assert (begun.connection_id, begun.backend_pid, begun.ended_at) == (
        end.connection_id,
        backend.pid,
        None,
    )
    assert (over.session_id, over.caused_by) == (begun.session_id, end.connection_id)
    assert [fact.kind for fact in over.facts][-1] == "ssh_disconnected"


async def test_a_killed_ide_backend_ends_the_ide_and_not_the_connection(
    agent: AgentRig, client: Client
) -> None:
    with listening("127.0.0.1", "remote-dev-server") as backend:
        await client.open_connection("127.0.0.1", backend.port)
        await ide_records(agent, 1)
        backend.kill()
        _, over = await ide_records(agent, 2)
    assert [fact.kind for fact in over.facts] == ["ide_backend_gone"]
    assert (await client.run("echo here")).stdout == "here\n"


async def test_what_is_left_of_an_ide_is_reported_when_the_agent_stops(
    agent: AgentRig, client: Client
) -> None:
    with listening("127.0.0.1", "-Didea.vendor.name=JetBrains") as backend:
        _, writer = await client.open_connection("127.0.0.1", backend.port)
        await ide_records(agent, 1)
        writer.close()
        await writer.channel.wait_closed()
        await agent.server.finish()
        assert len(await ide_records(agent, 2)) == 2
