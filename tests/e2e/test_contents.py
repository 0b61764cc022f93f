"""What ran over a connection, as the server tells it: forwarded connections and file operations."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from tests.support.deadline import DEADLINE_S
from tests.support.e2e.stack import Stack, truth, wait_for

pytestmark = [pytest.mark.real, pytest.mark.long]


def answer_once(listener: socket.socket, words: bytes) -> None:
    with listener:
        peer, _ = listener.accept()
        with peer:
            peer.sendall(words)


def test_a_forwarded_connection_is_told_with_its_end_and_its_bytes(stack: Stack) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    program = threading.Thread(target=answer_once, args=(listener, b"hello"))
    program.start()
    with stack.one_new_row() as row:
        done = stack.run(*stack.ssh_argv("-W", f"127.0.0.1:{port}", stack.host))
    program.join(10)
    assert (done.returncode, done.stdout) == (0, "hello")
    assert row["type"] == "port_forward"
    told = stack.explain(row["id"])
    (forward,) = told["forwards"]
    assert (forward["kind"], forward["destination"]) == ("direct_tcpip", f"127.0.0.1:{port}")
    assert forward["end"] in ("workspace_closed", "client_closed")  # ssh has no input: both race
    assert forward["tx_bytes"] == 5
    assert f"to 127.0.0.1:{port}, " in stack.tether("explain", row["id"]).stdout


def test_a_program_that_speaks_first_is_heard(stack: Stack) -> None:
    for _ in range(8):  # its words and the channel's opening race
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        program = threading.Thread(target=answer_once, args=(listener, b"220 ready"))
        program.start()
        done = stack.run(*stack.ssh_argv("-W", f"127.0.0.1:{port}", stack.host))
        program.join(10)
        assert (done.returncode, done.stdout) == (0, "220 ready")


def test_what_sftp_was_asked_to_do_is_told(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "local").write_text("x")
    there = tmp_path / "there"
    batch = f"put {tmp_path / 'local'} {there}\nrename {there} {there}.2\nrm {there}.2\n"
    with stack.one_new_row() as row:
        done = stack.run("sftp", "-F", str(stack.ssh_config), "-b", "-", stack.host, input=batch)
    assert done.returncode == 0, done.stderr
    (audit,) = stack.explain(row["id"])["file_operations"]
    asked = [(one["act"], one["path"]) for one in audit["operations"]]
    wanted = [("create", str(there)), ("rename", str(there)), ("remove", f"{there}.2")]
    assert [one for one in wanted if one not in asked] == []
    assert (audit["program"], audit["left_out"], audit["complete"]) == ("sftp", 0, True)


def test_ssh_w_that_is_done_ended_gracefully(stack: Stack) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    program = threading.Thread(target=answer_once, args=(listener, b"bye"))
    program.start()
    with stack.one_new_row() as row:
        # Its input stays open, as a jump's does: the far end is what ends it.
        jump = stack.spawn_ssh("-W", f"127.0.0.1:{port}", stack.host)
        try:
            assert jump.stdout is not None
            assert jump.stdout.read() == b"bye"
            assert jump.stdin is not None
            jump.stdin.close()
            assert jump.wait(DEADLINE_S) == 0
        finally:
            jump.kill()
            jump.wait()
    program.join(10)
    assert (truth(row), row["disconnect_cause"]) == (
        ("graceful", "client", True),
        "session.forwarded",
    )


def test_a_process_that_outlives_its_session_has_an_end_of_its_own(stack: Stack) -> None:
    """A command without a terminal goes on when its client is gone, as under OpenSSH."""
    flag = stack.root / "go-on"
    with stack.one_new_row() as row:
        ssh = stack.spawn_ssh(
            stack.host, f"echo up; while ! [ -e {flag} ]; do sleep 0.05; done; exit 9"
        )
        assert ssh.stdout is not None
        assert ssh.stdout.readline() == b"up\n"
        ssh.terminate()
        ssh.wait(DEADLINE_S)
    assert truth(row) == ("client_closed", "client", True)
    (session,) = stack.explain(row["id"])["sessions"]
    assert (session["exit_code"], session["process_ended_at"]) == (None, None)
    flag.touch()

    def outlived() -> dict[str, object] | None:
        (session,) = stack.explain(row["id"])["sessions"]
        return session if session["process_ended_at"] else None

    session = wait_for("the process's own end", outlived)
    assert session["exit_code"] == 9
    assert str(session["process_ended_at"]) > str(session["ended_at"])
    (now,) = [r for r in stack.connections(limit=1000) if r["id"] == row["id"]]
    assert now == row, "what the process did later changes nothing about the connection's end"
