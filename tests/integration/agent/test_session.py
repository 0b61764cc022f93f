"""Sessions, through OpenSSH's client and asyncssh's: commands, shells, terminals, files, signals."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import os
import shutil
import signal
import socket
import sys
from pathlib import Path

import asyncssh
import pytest

from tests.support.agent.agent_rig import AgentRig, agent_rig
from tether.agent.process.environment import MAX_BYTES, MAX_VARIABLES, Account
from tether.agent.ssh import sftp_subsystem
from tether.attribution import evidence as ev
from tether.protocol.messages.reports import SessionRecord
from tether.protocol.messages.tunnel import Redraw, SessionResult

Client = asyncssh.SSHClientConnection
BIG = 20_000_000
needs_ssh = pytest.mark.skipif(shutil.which("ssh") is None, reason="no OpenSSH client")


async def gone(pid: int) -> None:
    """Return when the process is gone (a zombie of somebody else's counts as gone)."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


# -- directions that end alone -------------------------------------------------------------------


@needs_ssh
@pytest.mark.parametrize("terminal", [(), ("-tt",)])
async def test_a_command_whose_reader_has_left_ends(
    agent: AgentRig, terminal: tuple[str, ...]
) -> None:
    read, write = os.pipe()
    with os.fdopen(read, "rb") as reader:
        ssh = await agent.start(
            *agent.ssh_argv(*terminal, "127.0.0.1", "yes"),
            stdout=write,
            stdin=asyncio.subprocess.PIPE,
        )
        os.close(write)
        assert (await asyncio.to_thread(reader.readline)).strip() == b"y"
    assert await ssh.wait() == 255  # as with sshd, whose client is told of the signal
    assert [r.exit_signal for r in agent.records if r.ended_at] == ["HUP" if terminal else "PIPE"]


async def test_errors_and_the_code_of_a_command_whose_output_nobody_reads_arrive(
    client: Client,
) -> None:
    process = await client.create_process(
        "trap '' PIPE; read line; echo lost 2>&- || echo broken >&2; exit 4"
    )
    process.channel._send_request(b"eow@openssh.com")
    process.stdin.write("go on\n")
    done = await process.wait()
    assert (done.stdout, done.stderr, done.exit_status) == ("", "broken\n", 4)


async def test_the_end_of_the_output_is_told_before_the_command_ends(client: Client) -> None:
    process = await client.create_process("echo all; exec >&- 2>&-; read line; exit $line")
    assert await process.stdout.read() == "all\n"
    process.stdin.write("6\n")
    assert (await process.wait()).exit_status == 6


async def test_a_client_that_opens_no_more_sessions_gets_no_more(client: Client) -> None:
    assert (await client.run("true")).exit_status == 0
    client._send_global_request(b"no-more-sessions@openssh.com", want_reply=False)
    with pytest.raises(asyncssh.ChannelOpenError, match="no more sessions"):
        await client.run("true")


# -- commands ----------------------------------------------------------------------------------


@needs_ssh
async def test_a_command_has_its_output_its_errors_and_its_code(agent: AgentRig) -> None:
    assert await agent.ssh("echo out; echo err >&2; exit 3") == (3, b"out\n", b"err\n")


@needs_ssh
async def test_a_command_reads_its_input_to_the_end(agent: AgentRig) -> None:
    status, out, _ = await agent.ssh("sha256sum", input=b"x" * 3_000_000)
    assert (status, out.split()[0].decode()) == (0, hashlib.sha256(b"x" * 3_000_000).hexdigest())


@needs_ssh
async def test_all_output_arrives_before_the_code(agent: AgentRig) -> None:
    status, out, _ = await agent.ssh(f"head -c {BIG} /dev/zero; exit 9")
    assert (status, len(out)) == (9, BIG)


@needs_ssh
async def test_both_directions_flow_at_once(agent: AgentRig) -> None:
    data = os.urandom(BIG)
    status, out, _ = await agent.ssh("cat", input=data)
    assert status == 0
    assert hashlib.sha256(out).digest() == hashlib.sha256(data).digest()


@needs_ssh
async def test_the_command_line_reaches_the_shell_byte_for_byte(agent: AgentRig) -> None:
    assert await agent.ssh("printf %s '\udcff' \"a'b\"") == (0, b"\xffa'b", b"")


async def test_a_command_killed_by_a_signal_says_so(agent: AgentRig, client: Client) -> None:
    done = await client.run("kill -TERM $$")
    assert (done.exit_status, done.exit_signal) == (-1, ("TERM", False, "", "en-US"))
    assert [(r.exit_code, r.exit_signal) for r in agent.records] == [(None, None), (None, "TERM")]


async def test_a_signal_without_a_name_in_ssh_is_marked_as_ours(client: Client) -> None:
    done = await client.run("kill -PWR $$")
    assert done.exit_signal is not None
    assert done.exit_signal[0] == "PWR@tether"


@pytest.mark.parametrize("name", ["INT", "TERM", "HUP", "USR1"])
async def test_the_clients_signals_reach_the_whole_group(client: Client, name: str) -> None:
    process = await client.create_process("echo ready; sleep 60; kill -9 $$")
    assert await process.stdout.readline() == "ready\n"
    process.send_signal(name)
    assert (await process.wait()).exit_signal == (name, False, "", "en-US")


@pytest.mark.parametrize("term", [None, "xterm"])
async def test_a_killed_command_says_nothing_more(client: Client, term: str | None) -> None:
    process = await client.create_process(
        "echo ready; while :; do sleep 0.01; done; echo more", term_type=term
    )
    assert str(await process.stdout.readline()).strip() == "ready"
    process.send_signal("KILL")
    done = await process.wait()
    assert (done.exit_signal, done.stdout) == (("KILL", False, "", "en-US"), "")


async def test_an_unknown_signal_and_a_break_change_nothing(client: Client) -> None:
    process = await client.create_process("read line; echo $line")
    process.send_signal("WINCH")
    process.send_break(500)
    process.stdin.write("still here\n")
    assert (await process.wait()).stdout == "still here\n"


async def test_a_client_whose_screen_was_written_over_has_the_program_draw_anew(
    agent: AgentRig, client: Client
) -> None:
    process = await client.create_process(
        "trap 'echo drawn; exit 5' WINCH; echo ready; while :; do sleep 0.01; done",
        term_type="xterm",
    )
    assert str(await process.stdout.readline()).strip() == "ready"
    plain = await client.create_process("read line")
    agent.clients[-1].tunnel.send(Redraw())
    assert str(await process.stdout.readline()).strip() == "drawn"
    assert (await process.wait()).exit_status == 5
    plain.stdin.write("\n")
    assert (await plain.wait()).exit_status == 0


async def test_a_command_that_reads_nothing_is_not_waited_for(client: Client) -> None:
    async with client.create_process("head -c 1 >/dev/null; exit 4", encoding=None) as process:
        process.stdin.write(b"x" * 10_000_000)
        assert (await process.wait()).exit_status == 4


async def test_a_background_process_that_keeps_the_pipes_keeps_the_session(
    agent: AgentRig, client: Client
) -> None:
    """As OpenSSH: the output is not over while somebody may still write it."""
    process = await client.create_process("(read line; echo late) <&0 & echo early; exit 5")
    assert await process.stdout.readline() == "early\n"
    process.stdin.write("go\n")
    assert await process.stdout.readline() == "late\n"
    assert (await process.wait()).exit_status == 5


async def test_a_background_process_that_lets_go_of_the_pipes_does_not(client: Client) -> None:
    done = await client.run("sleep 60 >/dev/null 2>&1 </dev/null & echo $!; exit 6")
    try:
        assert done.exit_status == 6
    finally:
        os.kill(int(str(done.stdout)), signal.SIGKILL)


async def test_a_client_that_leaves_kills_no_command_without_a_terminal(
    agent: AgentRig, client: Client
) -> None:
    """As OpenSSH: a build started by `ssh host make &` goes on; only its pipes are closed."""
    process = await client.create_process(
        "trap '' PIPE; echo $$; cat >/dev/null; echo x 2>/dev/null || touch saw-the-pipe-close"
    )
    pid = int(await process.stdout.readline())
    client.abort()
    await agent.end()
    await gone(pid)
    assert (agent.directory / "home" / "saw-the-pipe-close").exists()


async def test_a_client_that_closes_its_channel_ends_the_record_without_a_code(
    agent: AgentRig, client: Client
) -> None:
    process = await client.create_process("echo ready; cat")
    await process.stdout.readline()
    process.close()
    await process.wait_closed()
    assert (await client.run("true")).exit_status == 0
    first = [r for r in agent.records if r.session_id == agent.records[0].session_id]
    assert [(r.ended_at is None, r.exit_code, r.exit_signal) for r in first[:2]] == [
        (True, None, None),
        (False, None, None),
    ]
    # What `cat` did when its input closed is told beside that, never as the session's own end.
    assert all(r.ended_at == first[1].ended_at and r.process_ended_at for r in first[2:])


# -- where and as whom -------------------------------------------------------------------------


async def test_a_command_starts_at_home(agent: AgentRig, client: Client) -> None:
    assert (await client.run("pwd")).stdout == f"{agent.directory}/home\n"


async def test_the_environment_says_where_one_is(agent: AgentRig, client: Client) -> None:
    done = await client.run("env", env={"LANG": "C.UTF-8", "MY_OWN": "yes"})
    env = dict(line.split("=", 1) for line in str(done.stdout).splitlines())
    for shells in ("_", "SHLVL", "PWD"):
        env.pop(shells)
    client_ip, client_port, here, port = env.pop("SSH_CONNECTION").split()
    assert (client_ip, client_port, port) == ("192.0.2.7", "40722", "22")
    with socket.socket() as sock:
        sock.bind((here, 0))  # only an address of this machine can be bound
    assert not ipaddress.ip_address(here).is_unspecified
    assert env == {
        "HOME": f"{agent.directory}/home",
        "USER": "worker",
        "LOGNAME": "worker",
        "SHELL": "/bin/bash",
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "TETHER": "true",
        "TETHER_WORKSPACE": "dev",
        "TETHER_WORKSPACE_ID": "ws-1",
        "TETHER_CONNECTION_ID": next(iter(agent.server.live)),
        "TETHER_USER": "alice",
        "SSH_CLIENT": "192.0.2.7 40722 22",
        "LANG": "C.UTF-8",
        "MY_OWN": "yes",
    }


async def test_the_agents_own_environment_stays_with_the_agent(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TETHER_TOKEN", "secret")
    monkeypatch.setenv("ANYTHING", "else")
    assert (await client.run('echo "$TETHER_TOKEN$ANYTHING"')).stdout == "\n"


async def test_a_client_cannot_replace_what_is_set_nor_load_code(client: Client) -> None:
    forbidden = {"PATH": "/evil", "HOME": "/evil", "LD_PRELOAD": "/evil.so", "SSH_CLIENT": "evil"}
    done = await client.run("env", env=forbidden)
    assert "evil" not in str(done.stdout)


async def test_a_client_has_its_own_language(tmp_path: Path) -> None:
    theirs = {"LANG": "C.UTF-8", "LC_TIME": "C"}
    ours = {"LANG": "POSIX", "LC_PAPER": "POSIX", "TZ": "UTC"}
    async with agent_rig(tmp_path, env=ours) as agent, await agent.connect() as client:
        done = await client.run("echo $LANG $LC_TIME $LC_PAPER $TZ", env={**theirs, "TZ": "CET"})
    assert done.stdout == "C.UTF-8 C POSIX UTC\n"


async def test_whoever_copies_a_login_key_is_told_that_it_opens_nothing(
    agent: AgentRig, client: Client
) -> None:
    """What `ssh-copy-id -f` runs; it says "1 key added" otherwise."""
    command = (
        'exec sh -c \'cd; umask 077; mkdir -p ".ssh" && { [ -z `tail -1c .ssh/authorized_keys '
        '2>/dev/null` ] || echo >> ".ssh/authorized_keys" || exit 1; } && '
        'cat >> ".ssh/authorized_keys" || exit 1; \''
    )
    done = await client.run(command, input="ssh-ed25519 AAAA me\n")
    assert (done.exit_status, done.stdout) == (0, "")
    assert str(done.stderr).startswith("tether: keys in authorized_keys open nothing here: ")
    assert (agent.directory / "home/.ssh/authorized_keys").read_text() == "ssh-ed25519 AAAA me\n"


async def test_a_client_may_set_only_so_much(client: Client) -> None:
    many = {f"N{number}": "x" for number in range(MAX_VARIABLES + 50)}
    done = await client.run("env | grep -c '^N[0-9]*=x'", env=many)
    assert done.stdout == f"{MAX_VARIABLES}\n"
    large = {"LARGE": "x" * (MAX_BYTES - 4), "LITTLE": "x"}
    done = await client.run("echo ${#LARGE} ${#LITTLE}", env=large)
    assert done.stdout == "0 1\n"


async def test_a_home_that_is_gone_is_told_and_the_command_runs(tmp_path: Path) -> None:
    account = Account("worker", "/no/home", "/bin/sh")
    async with agent_rig(tmp_path, account=account) as agent, await agent.connect() as client:
        done = await client.run("pwd; exit 2")
    assert (done.stdout, done.stderr, done.exit_status) == (
        "/\n",
        "tether: the directory /no/home cannot be entered; starting in /\n",
        2,
    )


@pytest.mark.parametrize("term", [None, "xterm"])
async def test_a_shell_that_is_gone_is_named(tmp_path: Path, term: str | None) -> None:
    async with agent_rig(tmp_path, account=Account("worker", "/", "/no/shell")) as agent:
        async with await agent.connect() as client:
            done = await client.run("true", term_type=term)
        sentence = "tether: /no/shell does not exist or may not be run"
        assert (f"{done.stdout!s}{done.stderr!s}".rstrip(), done.exit_status) == (sentence, 127)
        facts = (await agent.end()).cell.facts
    assert [f.exit_code for f in facts if isinstance(f, ev.SessionEnded)] == [127]


async def test_a_command_that_cannot_be_started_is_told_and_not_waited_for(
    agent: AgentRig, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "posix_spawn", full)
    done = await client.run("true")
    assert (done.stderr, done.exit_status) == (
        "tether: /bin/bash could not be started: Resource temporarily unavailable "
        "(exit code 229: the workspace's agent failed, not your command)\n",
        229,
    )
    client.close()
    facts = (await agent.end()).cell.facts
    ended = [(f.exit_code, f.cause) for f in facts if isinstance(f, ev.SessionEnded)]
    assert ended == [(229, "agent.processes_exhausted")]


async def test_a_command_with_a_nul_byte_is_refused(client: Client) -> None:
    with pytest.raises(asyncssh.ChannelOpenError):
        await client.run("echo a\0b")


# -- shells and terminals ------------------------------------------------------------------------


@needs_ssh
async def test_a_shell_without_a_terminal_is_a_login_shell(agent: AgentRig) -> None:
    status, out, _ = await agent.ssh(input=b"shopt -q login_shell && echo login; exit 3\n")
    assert (status, out) == (3, b"login\n")


@needs_ssh
async def test_a_terminal_is_the_controlling_one_and_has_its_name(agent: AgentRig) -> None:
    command = 'tty </dev/tty; [ "$(tty)" = "$SSH_TTY" ] && echo "$TERM"'
    status, out, _ = await agent.ssh("-tt", command, env={"TERM": "screen-256color"})
    assert (status, out) == (0, b"/dev/tty\r\nscreen-256color\r\n")


async def test_a_terminal_has_its_size_and_learns_the_next(client: Client) -> None:
    process = await client.create_process(
        "stty -echo; stty size; read -r line; stty size",
        term_type="xterm",
        term_size=(100, 30),
    )
    assert await process.stdout.readline() == "30 100\r\n"
    process.change_terminal_size(132, 43)
    process.stdin.write("\n")
    assert await process.stdout.readline() == "43 132\r\n"


async def test_a_terminal_has_the_modes_that_were_asked_for(client: Client) -> None:
    modes = {
        asyncssh.PTY_ECHO: 0,
        asyncssh.PTY_ICRNL: 0,
        asyncssh.PTY_IUTF8: 1,
        asyncssh.PTY_VINTR: 5,
        asyncssh.PTY_VQUIT: 255,
        asyncssh.PTY_OP_OSPEED: 38400,
    }
    done = await client.run("stty -a", term_type="xterm", term_modes=modes)
    words = str(done.stdout).replace(";", " ").split()
    assert {"-echo", "-icrnl", "iutf8"} < set(words)
    assert "intr = ^E" in " ".join(words)
    assert "quit = <undef>" in " ".join(words)


async def test_the_last_words_on_a_terminal_arrive(client: Client) -> None:
    done = await client.run("seq 1 20000; exit 8", term_type="xterm")
    lines = str(done.stdout).splitlines()
    assert (len(lines), lines[-1], done.exit_status) == (20000, "20000", 8)


async def test_a_background_process_does_not_keep_a_terminal(client: Client) -> None:
    done = await client.run("trap '' HUP; sleep 60 & echo $!; exit 6", term_type="xterm")
    assert done.exit_status == 6
    os.kill(int(str(done.stdout)), signal.SIGKILL)


async def test_a_client_that_leaves_hangs_up_its_terminal(agent: AgentRig, client: Client) -> None:
    process = await client.create_process("echo $$; exec sleep 60", term_type="xterm")
    pid = int(await process.stdout.readline())
    client.abort()
    await agent.end()
    await gone(pid)


async def test_ctrl_c_interrupts_what_runs_on_the_terminal(client: Client) -> None:
    process = await client.create_process("echo ready; exec cat", term_type="xterm")
    await process.stdout.readline()
    process.stdin.write("\x03")
    assert (await process.wait()).exit_signal == ("INT", False, "", "en-US")


async def test_without_terminals_the_client_is_told_and_may_go_on(
    agent: AgentRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> tuple[int, int]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "openpty", none)
    async with await agent.connect() as client:
        with pytest.raises(asyncssh.ChannelOpenError):
            await client.run("true", term_type="xterm")
        assert (await client.run("true")).exit_status == 0


# -- files -----------------------------------------------------------------------------------------


async def copy_there_and_back(agent: AgentRig, client: Client) -> None:
    source, back = agent.directory / "source", agent.directory / "back"
    source.write_bytes(os.urandom(3_000_000))
    async with client.start_sftp_client() as files:
        await files.put(source, "there")
        await files.get("there", back)
        assert await files.listdir() == [".", "..", "there"] or "there" in await files.listdir()
    assert back.read_bytes() == source.read_bytes()


async def test_sftp_copies_both_ways(agent: AgentRig, client: Client) -> None:
    await copy_there_and_back(agent, client)
    client.close()
    end = await agent.end()
    first, last = agent.records[0], agent.records[-1]
    assert last == SessionRecord(
        connection_id=end.connection_id,
        session_id=first.session_id,
        session_type="sftp",
        app="ssh",
        started_at=first.started_at,
        subsystem="sftp",
        ended_at=last.ended_at,
        exit_code=0,
    )


async def test_without_an_sftp_server_the_agent_brings_its_own(
    agent: AgentRig, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sftp_subsystem, "SERVERS", ("/no/sftp-server",))
    assert sftp_subsystem.command()[0] == sys.executable
    await copy_there_and_back(agent, client)


@needs_ssh
@pytest.mark.parametrize("options", [(), ("-O",)], ids=["over sftp", "over a command"])
async def test_scp_copies_both_ways(agent: AgentRig, options: tuple[str, ...]) -> None:
    source, back = agent.directory / "source", agent.directory / "back"
    source.write_bytes(os.urandom(1_000_000))
    scp = [*agent._program("scp", "-P"), *options]
    assert await agent.run(*scp, str(source), "127.0.0.1:there") == (0, b"", b"")
    assert await agent.run(*scp, "127.0.0.1:there", str(back)) == (0, b"", b"")
    assert back.read_bytes() == source.read_bytes()


async def test_a_client_that_names_an_sftp_server_counts_as_sftp(
    agent: AgentRig, client: Client
) -> None:
    await client.run("sftp-server </dev/null 2>/dev/null")
    assert {record.session_type for record in agent.records} == {"sftp"}


async def test_another_subsystem_is_refused(client: Client) -> None:
    with pytest.raises(asyncssh.ChannelOpenError):
        await client.create_process(subsystem="netconf")
    assert (await client.run("true")).exit_status == 0


# -- the record --------------------------------------------------------------------------------------


async def test_a_session_is_recorded_at_its_start_and_its_end(agent: AgentRig) -> None:
    async with await agent.connect() as client:
        await client.run("exit 3", term_type="xterm")
    end = await agent.end()
    first, last = agent.records
    assert first == SessionRecord(
        connection_id=end.connection_id,
        session_id=first.session_id,
        session_type="ssh",
        app="ssh",
        started_at=first.started_at,
        pty=True,
    )
    assert last == SessionRecord(
        connection_id=end.connection_id,
        session_id=first.session_id,
        session_type="ssh",
        app="ssh",
        started_at=first.started_at,
        pty=True,
        ended_at=last.ended_at,
        exit_code=3,
    )
    assert last.ended_at is not None
    assert first.started_at <= last.ended_at


async def test_the_tunnel_is_told_the_result_before_ssh_is(agent: AgentRig, client: Client) -> None:
    tunnel = agent.clients[0]
    await client.run("exit 3")
    await client.run("kill -9 $$")
    results = [message for message in tunnel.heard if isinstance(message, SessionResult)]
    assert results == [SessionResult(exit_code=3), SessionResult(exit_signal="KILL")]


async def test_sessions_of_one_connection_are_counted_as_they_end(agent: AgentRig) -> None:
    async with await agent.connect() as client:
        slow = await client.create_process("read line; exit 1")
        await client.run("exit 2")
        slow.stdin.write("\n")
        await slow.wait()
    facts = (await agent.end()).cell.facts
    assert [(f.exit_code, f.open_sessions) for f in facts if isinstance(f, ev.SessionEnded)] == [
        (2, 1),
        (1, 0),
    ]
