"""Scripted patterns of VS Code Remote-SSH and JetBrains Gateway, through the stock ssh."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.agent.listening import listening
from tests.support.deadline import DEADLINE_S
from tests.support.e2e.stack import Stack, free_port, wait_for

pytestmark = [pytest.mark.real, pytest.mark.long]

BOOTSTRAP = """\
export VSCODE_AGENT_FOLDER="$HOME/.vscode-server"
echo "listeningOn==1=="
exit 0
"""


@contextlib.contextmanager
def forwarding(stack: Stack, local: int, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """An ssh that forwards `local` to `port` in the workspace."""
    ssh = stack.spawn_ssh("-N", "-L", f"127.0.0.1:{local}:127.0.0.1:{port}", stack.host)
    try:

        def listens() -> bool:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", local), 1):
                return True
            return False

        wait_for("the forwarded port", listens)
        yield ssh
    finally:
        ssh.terminate()
        ssh.communicate(timeout=DEADLINE_S)


def test_vs_code_is_known_by_its_bootstrap_and_by_the_many_sessions_that_follow(
    stack: Stack,
) -> None:
    with stack.one_new_row() as row:
        done = stack.run(*stack.ssh_argv("-T", stack.host, "bash"), input=BOOTSTRAP)
    assert (done.returncode, done.stdout) == (0, "listeningOn==1==\n")
    (session,) = stack.explain(row["id"])["sessions"]
    assert (session["session_type"], session["app"], session["exit_code"]) == (
        "vscode",
        "vscode",
        0,
    )


def test_a_declared_app_is_recorded_and_hidden_from_the_command(stack: Stack) -> None:
    with stack.one_new_row() as row:
        done = stack.run(
            *stack.ssh_argv("-o", "SetEnv=CODER_SSH_SESSION_TYPE=Cursor", stack.host),
            "env | grep -c SESSION_TYPE",
        )
    assert (done.returncode, done.stdout) == (1, "0\n")
    (session,) = stack.explain(row["id"])["sessions"]
    assert (session["session_type"], session["app"]) == ("vscode", "cursor")


def test_a_jetbrains_ide_is_a_row_that_says_which_connection_took_it_along(stack: Stack) -> None:
    local = free_port()
    before = stack.ids()
    with (
        listening("127.0.0.1", "-Didea.vendor.name=JetBrains") as backend,
        forwarding(stack, local, backend.port) as ssh,
        socket.create_connection(("127.0.0.1", local)),
    ):
        ide = wait_for("the IDE's row", lambda: stack.connections(type="jetbrains"))[0]
        ssh.terminate()
        ssh.wait(DEADLINE_S)
        over = wait_for("its end", lambda: _closed(stack, ide["id"]))
    carrier = stack.explain(ide["id"])["ide"]["channels"][0]["connection_id"]
    assert carrier in stack.ids() - before
    assert over["disconnect_cause"]
    assert stack.explain(ide["id"])["ide"]["caused_by"] == carrier


def test_a_jetbrains_backend_that_is_killed_is_told_so(stack: Stack) -> None:
    local = free_port()
    known = {row["id"] for row in stack.connections(type="jetbrains")}
    with (
        listening("127.0.0.1", "remote-dev-server") as backend,
        forwarding(stack, local, backend.port),
        socket.create_connection(("127.0.0.1", local)),
    ):
        ide = wait_for(
            "the IDE's row",
            lambda: [r for r in stack.connections(type="jetbrains") if r["id"] not in known],
        )[0]
        backend.kill()
        over = wait_for("its end", lambda: _closed(stack, ide["id"]))
    assert str(over["disconnect_cause"]).startswith("ide.backend_")


def _closed(stack: Stack, connection_id: str) -> dict[str, object] | None:
    rows = [r for r in stack.connections(type="jetbrains") if r["id"] == connection_id]
    return rows[0] if rows and rows[0]["disconnected_at"] else None
