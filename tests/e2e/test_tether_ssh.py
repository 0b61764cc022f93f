"""`tether ssh` and its ProxyCommand with real programs: exit codes, words, signals, bad luck."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support.deadline import DEADLINE_S
from tests.support.e2e.stack import TETHER, Stack, free_port, truth, wait_for

pytestmark = pytest.mark.real


def test_a_command_that_exits_255_is_no_failed_connection(stack: Stack) -> None:
    with stack.one_new_row() as row:
        done = stack.tether("ssh", "dev", "--", "exit 255", check=False)
    assert (done.returncode, done.stderr) == (255, "")
    assert (row["disconnect_cause"], row["exit_code"]) == ("session.exit", 255)


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_a_program_that_closed_its_streams_can_run_a_command(stack: Stack, closed: str) -> None:
    """As with OpenSSH's own programs, each of them is the null device then."""
    ran = stack.root / "ran"
    ran.unlink(missing_ok=True)
    script = ["sh", "-c", f'exec "$@" {closed}', "sh"]
    done = stack.run(*script, *TETHER, "ssh", "dev", "--", f"echo ran > {ran}; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "")
    assert ran.read_text() == "ran\n"
    listed = stack.run(*script, *TETHER, "connections", "--limit", "1")
    assert listed.returncode == 0


@pytest.mark.parametrize("name", ["nosuch", "-oProxyCommand=x", "a b"])
def test_a_connection_that_cannot_be_is_255_and_one_line(stack: Stack, name: str) -> None:
    done = stack.tether("ssh", "--", name, "true", check=False)
    assert (done.returncode, done.stdout) == (255, "")
    assert done.stderr.startswith("tether: ")
    assert done.stderr.count("\n") == 1


def test_a_server_that_is_down_is_255_and_one_line(stack: Stack) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    env = {**stack.env, "TETHER_URL": url, "TETHER_TOKEN": "t"}
    done = subprocess.run(
        [*TETHER, "ssh", "dev", "true"], env=env, capture_output=True, text=True, timeout=DEADLINE_S
    )
    host = url.removeprefix("http://")
    assert (done.returncode, done.stderr) == (
        255,
        f"tether: nothing listens at {host}: is the server running?\n",
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_to_tether_ssh_is_a_polite_end(stack: Stack, number: signal.Signals) -> None:
    with stack.one_new_row() as row:
        session = subprocess.Popen(
            [*TETHER, "ssh", "dev", "--", "echo up; exec sleep 1000"],
            env=stack.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            assert session.stdout is not None
            assert session.stdout.readline() == b"up\n"
            session.send_signal(number)
            assert session.wait(DEADLINE_S) == 255
        finally:
            session.kill()
            session.communicate(timeout=DEADLINE_S)
    assert truth(row) == ("client_closed", "client", True)


def test_connections_of_one_ide_are_told_as_such(stack: Stack) -> None:
    env = {**stack.env, "TETHER_CLIENT_SESSION_ID": "ide-4711"}
    with stack.one_new_row() as row:
        subprocess.run(stack.ssh_argv(stack.host, "true"), env=env, check=True, timeout=DEADLINE_S)
    assert row["client_session_id"] == "ide-4711"
    (end,) = [
        line
        for line in stack.agent.events("ssh connection closed")
        if line["connection_id"] == row["id"]
    ]
    assert end["client_session_id"] == "ide-4711"


def test_options_reach_ssh(stack: Stack) -> None:
    done = stack.tether("ssh", "dev", "-tt", "-o", "SetEnv=LC_TETHER=1", "test -t 0 && echo tty")
    assert done.stdout == "tty\n"  # CRLF from the terminal, read as text


def test_the_proxy_speaks_ssh_over_a_socket_pair_and_ends_with_it(stack: Stack) -> None:
    ours, its = socket.socketpair()
    with ours:
        with its:
            proxy = subprocess.Popen(
                [*TETHER, "ssh", "--stdio", "dev"],
                env=stack.env,
                stdin=its.fileno(),
                stdout=its.fileno(),
            )
        ours.settimeout(15)
        assert ours.recv(8) == b"SSH-2.0-"
    assert proxy.wait(DEADLINE_S) == 0


def test_the_proxy_takes_a_file_and_leaves_no_descriptor_non_blocking(
    stack: Stack, tmp_path: Path
) -> None:
    (tmp_path / "in").write_bytes(b"this is not ssh\r\n")
    read, write = os.pipe()
    with (tmp_path / "in").open("rb") as stdin, stack.one_new_row() as row:
        proxy = subprocess.Popen(
            [*TETHER, "ssh", "--stdio", "dev"], env=stack.env, stdin=stdin, stdout=write
        )
        proxy.wait(DEADLINE_S)
    assert os.get_blocking(write)
    os.close(write)
    os.close(read)
    assert row["disconnect_initiator"] == "client"


def test_the_result_file_tells_what_ssh_cannot(stack: Stack, tmp_path: Path) -> None:
    path = tmp_path / "result"
    env = {**stack.env, "TETHER_RESULT_FILE": str(path)}
    subprocess.run(
        stack.ssh_argv(stack.host, "kill -TERM $$"), env=env, check=False, timeout=DEADLINE_S
    )

    def last() -> dict[str, object] | None:
        result: dict[str, object] = json.loads(path.read_text().splitlines()[-1])
        return result if result["by"] else None

    result = wait_for("the proxy's last word", last)
    assert (result["exit_code"], result["exit_signal"], result["by"]) == (None, "TERM", "local")
    assert result["cause"] in {"session.signal", "client.closed"}  # who of the two was heard first


def test_an_agent_that_is_starting_is_waited_for(own_stack: Stack) -> None:
    own_stack.agent.stop()
    waiting = subprocess.Popen(
        [*TETHER, "ssh", "--wait", str(DEADLINE_S), "dev", "--", "echo here"],
        env=own_stack.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert waiting.stderr is not None
        assert "; waiting for it up to " in waiting.stderr.readline()
        own_stack.start_agent(wait=False)
        out, errors = waiting.communicate(timeout=DEADLINE_S)
    finally:
        waiting.kill()
        waiting.wait(DEADLINE_S)
    assert (waiting.returncode, out, errors) == (0, "here\n", "")
