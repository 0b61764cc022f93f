"""The truth table of ends: each fault done for real, each record compared with what happened."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.deadline import DEADLINE_S
from tests.support.e2e.stack import Stack, children_of, truth, wait_for

pytestmark = pytest.mark.real
CLIENT_CLOSED = ("client_closed", "client", True)
CLIENT_CRASHED = ("process_crashed", "client", False)
AGENT_CRASHED = ("process_crashed", "agent", False)
MARK = "session-is-up"


class Interactive:
    """An interactive shell over the stock ssh in a PTY of our own."""

    def __init__(self, stack: Stack, *options: str) -> None:
        self.master, slave = os.openpty()
        self.ssh = subprocess.Popen(
            stack.ssh_argv(*options, "-tt", stack.host),
            env={**stack.env, "PS1": "$ "},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        os.close(slave)
        self.seen = b""
        self.type(f"echo {MARK[:4]}''{MARK[4:]}\n")
        self.expect(MARK)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def expect(self, text: str, seconds: float = DEADLINE_S) -> None:
        deadline = time.monotonic() + seconds
        os.set_blocking(self.master, False)
        while text.encode() not in self.seen:
            assert time.monotonic() < deadline, (text, self.seen)
            try:
                self.seen += os.read(self.master, 65536)
            except BlockingIOError:
                time.sleep(0.02)
            except OSError:
                assert text.encode() in self.seen, (text, self.seen)

    @property
    def proxy(self) -> int:
        return wait_for("the ProxyCommand", lambda: next(iter(children_of(self.ssh.pid)), None))

    def close(self) -> None:
        if self.ssh.poll() is None:
            self.ssh.kill()
        self.ssh.wait(DEADLINE_S)
        if self.master >= 0:
            os.close(self.master)
            self.master = -1


def _take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture
def shell(stack: Stack) -> Iterator[Interactive]:
    opened = Interactive(stack)
    try:
        yield opened
    finally:
        opened.close()


def tilde_dot(shell: Interactive) -> None:
    shell.type("\n~.")


def close_terminal(shell: Interactive) -> None:
    os.close(shell.master)
    shell.master = -1


def sigterm_ssh(shell: Interactive) -> None:
    shell.ssh.send_signal(signal.SIGTERM)


def sigterm_proxy(shell: Interactive) -> None:
    os.kill(shell.proxy, signal.SIGTERM)


def sigkill_ssh(shell: Interactive) -> None:
    shell.ssh.kill()


def sigkill_both(shell: Interactive) -> None:
    proxy = shell.proxy
    os.kill(shell.ssh.pid, signal.SIGSTOP)
    os.kill(proxy, signal.SIGKILL)
    shell.ssh.kill()


def exit_shell(shell: Interactive) -> None:
    shell.type("exit\n")


@pytest.mark.parametrize(
    ("fault", "want"),
    [
        (exit_shell, ("graceful", "client", True)),
        (tilde_dot, CLIENT_CLOSED),
        (close_terminal, CLIENT_CLOSED),
        (sigterm_ssh, CLIENT_CLOSED),
        (sigterm_proxy, CLIENT_CLOSED),
        (sigkill_ssh, CLIENT_CRASHED),
        (sigkill_both, CLIENT_CRASHED),
    ],
)
def test_what_the_client_did(
    stack: Stack, fault: Callable[[Interactive], None], want: tuple[str, str, bool]
) -> None:
    with stack.one_new_row() as row:
        shell = Interactive(stack)
        try:
            fault(shell)
            shell.ssh.wait(DEADLINE_S)
        finally:
            shell.close()
    assert truth(row) == want, row
    explained = stack.explain(row["id"])
    assert explained["sentence"].endswith(".")
    assert explained["evidence"], "a verdict without evidence"
    in_logs = [
        [
            e
            for e in program.events()
            if e.get("connection_id") == row["id"] and "disconnect_reason" in e
        ]
        for program in (stack.agent, stack.server)
    ]
    assert [len(found) for found in in_logs] == [1, 1], in_logs
    for (line,) in in_logs:
        assert (
            line["connect_type"],
            line["disconnect_reason"],
            line["disconnect_initiator"],
            line["disconnect_expected"],
        ) == ("agent_to_client", *want), line


def test_a_person_kills_the_remote_command(stack: Stack) -> None:
    with stack.one_new_row() as row:
        ssh = stack.spawn_ssh(stack.host, "echo $$; exec sleep 1000")
        assert ssh.stdout is not None
        remote = int(ssh.stdout.readline())
        os.kill(remote, signal.SIGKILL)
        ssh.wait(DEADLINE_S)
    assert (truth(row), row["exit_signal"]) == (("graceful", "client", True), "KILL")


def ended_control(stack: Stack, before: set[str]) -> dict[str, Any]:
    """The agent's control row that was open before and is closed now."""

    def check() -> dict[str, Any] | None:
        rows = stack.connections(workspace=stack.workspace, type="control")
        closed = [r for r in rows if r["id"] in before and r["disconnected_at"]]
        return closed[0] if closed else None

    return wait_for("the control row to close", check)


def open_control(stack: Stack) -> set[str]:
    rows = stack.connections(workspace=stack.workspace, type="control")
    return {r["id"] for r in rows if r["disconnected_at"] is None}


def stderr_of(ssh: subprocess.Popen[bytes]) -> str:
    assert ssh.stderr is not None
    return ssh.stderr.read().decode()


def running(stack: Stack) -> subprocess.Popen[bytes]:
    """A command that runs until something ends it."""
    ssh = stack.spawn_ssh(stack.host, "echo up; exec sleep 1000")
    assert ssh.stdout is not None
    assert ssh.stdout.readline() == b"up\n"
    return ssh


def test_sigterm_to_the_agent(own_stack: Stack) -> None:
    stack, want = own_stack, ("server_shutdown", "agent", True)
    control = open_control(stack)
    with stack.one_new_row() as row:
        ssh = running(stack)
        assert stack.agent.stop() == 0
        assert ssh.wait(DEADLINE_S) == 255
    assert truth(row) == want
    assert f"pid {os.getpid()}" in row["disconnect_actor"]
    assert truth(ended_control(stack, control)) == want
    assert "asked to stop" in stderr_of(ssh)


def test_sigkill_to_the_agent_that_returns(own_stack: Stack) -> None:
    stack = own_stack
    control = open_control(stack)
    with stack.one_new_row() as row:
        ssh = running(stack)
        stack.agent.stop(signal.SIGKILL)
        assert ssh.wait(DEADLINE_S) == 255  # it is given 15 s to come back
        stack.start_agent()

    def told() -> bool:
        """Without the agent's own word, which may come later than the end, it has vanished."""
        return bool(stack.explain(row["id"])["disconnect_cause"] != "agent.vanished")

    wait_for("the agent's word about its last run", told)
    after = stack.explain(row["id"])
    assert (truth(after), after["disconnect_cause"]) == (AGENT_CRASHED, "agent.killed")
    assert truth(ended_control(stack, control)) == AGENT_CRASHED
    assert stderr_of(ssh).startswith("tether: ")


def test_sigkill_to_the_agent_that_never_returns(own_stack: Stack) -> None:
    stack = own_stack
    with stack.one_new_row() as row:
        ssh = running(stack)
        stack.agent.stop(signal.SIGKILL)
        assert ssh.wait(DEADLINE_S) == 255
    assert (truth(row), row["disconnect_cause"]) == (AGENT_CRASHED, "agent.vanished")


def test_sigterm_to_the_server_ends_control_links_and_no_session(own_stack: Stack) -> None:
    stack, want = own_stack, ("server_shutdown", "server", True)
    control = open_control(stack)
    before = stack.ids()
    ssh = running(stack)
    try:
        assert stack.server.stop() == 0
        stack.start_server()
        assert truth(ended_control(stack, control)) == want
        lines = list(stack.agent.events("disconnected from server"))
        assert [truth(line) for line in lines] == [want]
        assert ssh.poll() is None
        new = [r for r in stack.connections() if r["id"] not in before]
        assert [r["disconnected_at"] for r in new if r["connect_type"] == "agent_to_client"] == [
            None
        ]
        client = [r for r in new if r["connect_type"] == "client_to_server"]
        assert truth(client[-1]) == want  # the link that the server ended, not the next one
    finally:
        ssh.terminate()
        ssh.wait(DEADLINE_S)


def test_sigkill_to_the_server_that_returns(own_stack: Stack) -> None:
    stack, want = own_stack, ("control_plane_lost", "server", False)
    control = open_control(stack)
    stack.server.stop(signal.SIGKILL)
    stack.agent.wait_event("disconnected from server")
    stack.start_server()
    row = ended_control(stack, control)
    assert (truth(row), row["disconnect_cause"]) == (want, "server.crashed")
    assert [truth(line) for line in stack.agent.events("disconnected from server")] == [want]
    wait_for("the agent to be back", lambda: stack.ssh("true").returncode == 0 or None)


def test_workspace_stop_and_start(own_stack: Stack) -> None:
    stack, want = own_stack, ("workspace_stopped", "server", True)
    control = open_control(stack)
    with stack.one_new_row() as row:
        ssh = running(stack)
        stack.tether("workspace", "stop", "dev")
        assert ssh.wait(DEADLINE_S) == 255
    assert (truth(row), row["disconnect_actor"]) == (want, "user:admin")
    assert truth(ended_control(stack, control)) == want
    assert "was stopped by admin" in stderr_of(ssh)
    refused = stack.ssh("true")
    assert refused.returncode == 255
    assert "tether workspace start dev" in refused.stderr
    stack.tether("workspace", "start", "dev")
    wait_for("the workspace to be back", lambda: stack.ssh("true").returncode == 0 or None)


def test_reports_wait_for_a_server_that_is_down(own_stack: Stack) -> None:
    stack = own_stack
    before = stack.ids()
    ssh = running(stack)
    stack.server.stop(signal.SIGKILL)
    stack.agent.stop()  # nothing but this ends what it serves
    stack.agent.wait_event("ssh connection closed")
    assert ssh.wait(DEADLINE_S) == 255
    stack.start_server()
    stack.start_agent()

    def closed() -> list[dict[str, Any]] | None:
        rows = [
            r
            for r in stack.connections()
            if r["id"] not in before and r["connect_type"] == "agent_to_client"
        ]
        return rows if rows and all(r["disconnected_at"] for r in rows) else None

    (row,) = wait_for("the replayed report", closed)
    assert truth(row) == ("server_shutdown", "agent", True)
    assert row["revision"] == 1


def test_two_agents_with_one_token(own_stack: Stack) -> None:
    stack = own_stack
    control = open_control(stack)
    stack.start_agent("agent2")
    row = ended_control(stack, control)
    assert truth(row) == ("superseded", "server", False)
    line = stack.agent.wait_event("disconnected from server")
    assert truth(line) == ("superseded", "server", False)
    refused = stack.ssh("true")
    assert refused.returncode == 255, "the usurper has another host key than the pinned one"
    assert "host key" in refused.stderr


def test_random_bytes_disturb_nobody(stack: Stack) -> None:
    ssh = running(stack)
    try:
        for payload in (os.urandom(4096), b"A" * 3_000_000, b"GET /derp HTTP/1.1\r\n", b""):
            with socket.create_connection(("127.0.0.1", stack.port)) as sock:
                sock.settimeout(2)
                try:
                    sock.sendall(payload)
                    sock.recv(1000)
                except OSError:
                    pass
        assert ssh.poll() is None
        assert stack.ssh("echo fine").stdout == "fine\n"
    finally:
        ssh.terminate()
        ssh.wait(DEADLINE_S)
