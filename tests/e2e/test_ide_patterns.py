"""What editors really do with one SSH connection, replayed with the stock ssh: VS Code Remote-SSH's
bootstrap, its many exec channels and its dynamic forward; JetBrains' sessions, agent and backend port.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.deadline import DEADLINE_S
from tests.support.e2e.stack import Stack, children_of, free_port, truth, wait_for

pytestmark = [pytest.mark.real, pytest.mark.long]
GRACEFUL = ("graceful", "client", True)
ECHO_SERVER = """
import socketserver, sys
class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line)
class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
with Server(("127.0.0.1", 0), Echo) as server:
    print(f"listeningOn=={server.server_address[1]}==", flush=True)
    server.serve_forever()
"""

# As Remote-SSH writes it: a script on the standard input of a bare shell, which leaves its server
# running in the background and ends with a block of answers between two marks.
BOOTSTRAP = """
export VSCODE_AGENT_FOLDER="$HOME/.vscode-server"
COMMIT=0123456789abcdef0123456789abcdef01234567
SERVER_DIR="$VSCODE_AGENT_FOLDER/bin/$COMMIT"
mkdir -p "$SERVER_DIR"
if [ -f "$SERVER_DIR/pid" ] && kill -0 "$(cat "$SERVER_DIR/pid")" 2>/dev/null; then
  echo already running >&2
else
  nohup %(python)s %(server)s --start-server >"$SERVER_DIR/log" 2>&1 </dev/null &
  echo $! >"$SERVER_DIR/pid"
fi
until grep -q listeningOn "$SERVER_DIR/log"; do sleep 0.05; done
print_install_results_and_exit() {
  echo "5a4e: start"
  echo "exitCode==0=="
  cat "$SERVER_DIR/log"
  echo "pid==$(cat "$SERVER_DIR/pid")=="
  echo "5a4e: end"
  exit 0
}
print_install_results_and_exit
"""


def answers(out: str) -> dict[str, str]:
    return dict(re.findall(r"^(\w+)==(\w+)==$", out, re.MULTILINE))


def echoes(sock: socket.socket, line: bytes = b"hello through the forward\n") -> bool:
    sock.settimeout(10)
    sock.sendall(line)
    seen = b""
    while not seen.endswith(b"\n") and (piece := sock.recv(4096)):
        seen += piece
    return seen == line


def through_socks(proxy: int, port: int) -> socket.socket:
    """A connection to `port` in the workspace through ssh's own SOCKS5 server."""
    sock = socket.create_connection(("127.0.0.1", proxy), 10)
    sock.sendall(b"\5\1\0")
    assert sock.recv(2) == b"\5\0"
    host = b"localhost"
    sock.sendall(b"\5\1\0\3" + bytes([len(host)]) + host + struct.pack(">H", port))
    assert sock.recv(10)[1] == 0
    return sock


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextlib.contextmanager
def master(stack: Stack, path: Path, *options: str) -> Iterator[list[str]]:
    """A ControlMaster; yields the options that share it. It is told to exit at the end."""
    share = ["-o", f"ControlPath={path}"]
    ssh = stack.spawn_ssh("-M", "-N", *share, *options, stack.host)
    try:
        wait_for("the control socket", lambda: path.exists() or None)
        yield share
        stack.run(*stack.ssh_argv(*share, "-O", "exit", stack.host), check=True)
        ssh.communicate(timeout=DEADLINE_S)
    finally:
        ssh.kill()
        ssh.communicate()


def test_vs_code_bootstraps_multiplexes_and_talks_through_a_dynamic_forward(
    stack: Stack, tmp_path: Path
) -> None:
    server, socks = stack.home / "vscode-server.py", free_port()
    server.write_text(ECHO_SERVER)
    script = BOOTSTRAP % {"python": shlex.quote(sys.executable), "server": server}
    pid = 0
    try:
        with stack.one_new_row() as row, master(stack, tmp_path / "cm", "-D", str(socks)) as share:
            first = stack.run(*stack.ssh_argv("-T", *share, stack.host, "bash"), input=script)
            told = answers(first.stdout)
            pid = int(told.get("pid", "0"))
            assert (first.returncode, told["exitCode"]) == (0, "0")
            with ThreadPoolExecutor(10) as pool:
                many = list(
                    pool.map(
                        lambda n: stack.run(*stack.ssh_argv(*share, stack.host, f"echo {n}")),
                        range(20),
                    )
                )
            assert [done.stdout for done in many] == [f"{n}\n" for n in range(20)]
            wait_for("ssh's SOCKS server", lambda: listens(socks) or None)
            socks_to = int(told["listeningOn"])
            open_at_once = [through_socks(socks, socks_to) for _ in range(5)]
            assert all(echoes(sock) for sock in open_at_once)
            for sock in open_at_once:
                sock.close()
        assert truth(row) == GRACEFUL
        record = stack.explain(row["id"])
        assert len(record["sessions"]) == 21
        (bootstrap,) = [s for s in record["sessions"] if s["session_type"] == "vscode"]
        assert (bootstrap["app"], bootstrap["exit_code"]) == ("vscode", 0)
        assert row["type"] == "vscode", "the whole connection is filed under the editor"
        carried = [f for f in record["forwards"] if f["destination"].endswith(f":{socks_to}")]
        assert sum(f["count"] for f in carried) == 5

        # The editor reconnects: its server is still there, and is found again.
        again = stack.run(*stack.ssh_argv("-T", stack.host, "bash"), input=script)
        assert again.stderr == "already running\n"
        assert answers(again.stdout)["pid"] == told["pid"]
    finally:
        if pid:
            os.kill(pid, signal.SIGTERM)


@contextlib.contextmanager
def backend(stack: Stack, *arguments: str) -> Iterator[tuple[int, int]]:
    """A server in the workspace with `arguments` in its command line: its pid and its port."""
    process = subprocess.Popen(
        [sys.executable, "-c", ECHO_SERVER, *arguments],
        env=stack.env,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process.pid, int(answers(process.stdout.readline())["listeningOn"])
    finally:
        process.kill()
        process.communicate()


def new_rows(stack: Stack, before: set[str], kind: str) -> list[dict[str, Any]]:
    return [r for r in stack.connections(type=kind) if r["id"] not in before]


def ended(stack: Stack, before: set[str], kind: str) -> list[dict[str, Any]] | None:
    """Rows of `kind` that are new, if there are any and all of them are over."""
    rows = new_rows(stack, before, kind)
    return rows if rows and all(r["disconnected_at"] for r in rows) else None


def test_jetbrains_channels_to_one_backend_are_one_ide_session(stack: Stack) -> None:
    before, local = stack.ids(), free_port()
    with backend(stack, "-Didea.vendor.name=JetBrains") as (pid, port):
        declared = ["-o", "SetEnv=TETHER_SSH_SESSION_TYPE=jetbrains"]
        for n in range(5):  # Gateway asks a lot before it forwards anything
            done = stack.run(*stack.ssh_argv(*declared, stack.host, f"echo {n}"))
            assert done.stdout == f"{n}\n"
        forward = f"127.0.0.1:{local}:127.0.0.1:{port}"
        ssh = stack.spawn_ssh("-N", *declared, "-L", forward, stack.host)
        try:
            wait_for("the forwarded port", lambda: listens(local) or None)
            channels = [socket.create_connection(("127.0.0.1", local), 10) for _ in range(4)]
            assert all(echoes(channel) for channel in channels)
            (ide,) = wait_for(
                "the IDE's row",
                lambda: [r for r in new_rows(stack, before, "jetbrains") if r["parent_id"]],
            )
            assert ide["disconnected_at"] is None
            for channel in channels[1:]:
                channel.close()
            ssh.terminate()
            ssh.communicate(timeout=DEADLINE_S)
            channels[0].close()
        finally:
            ssh.kill()
            ssh.communicate()
        rows = wait_for("its end", lambda: ended(stack, before, "jetbrains"))
    (over,) = [r for r in rows if r["id"] == ide["id"]]
    assert truth(over) == ("client_closed", "client", True), "as the connection that carried it"
    explained = stack.explain(ide["id"])
    seen = explained["ide"]
    assert (seen["backend_pid"], seen["backend_marker"]) == (pid, "idea.vendor.name=JetBrains")
    # `listens` was a channel too; an IDE's first try is no different.
    assert seen["channels_total"] == 5
    parent = stack.explain(over["parent_id"])
    assert [child["connection_id"] for child in parent["children"]] == [ide["id"]]
    # Nothing of Gateway's short sessions is lost either: each is a row that ended well.
    assert [truth(r) for r in rows if r["parent_id"] is None] == [GRACEFUL] * 5


def test_a_backend_that_is_killed_ends_the_ide_and_not_the_connection(stack: Stack) -> None:
    before, local = stack.ids(), free_port()
    with backend(stack, "-Didea.vendor.name=JetBrains") as (pid, port):
        ssh = stack.spawn_ssh("-L", f"127.0.0.1:{local}:127.0.0.1:{port}", stack.host, "cat")
        try:
            assert ssh.stdin is not None and ssh.stdout is not None
            ssh.stdin.write(b"up\n")
            ssh.stdin.flush()
            assert ssh.stdout.readline() == b"up\n"
            with socket.create_connection(("127.0.0.1", local), 10) as channel:
                assert echoes(channel)
                wait_for("the IDE's row", lambda: new_rows(stack, before, "jetbrains"))
                os.kill(pid, signal.SIGKILL)
                assert channel.recv(1) == b""
            (ide,) = wait_for("its end", lambda: ended(stack, before, "jetbrains"))
            ssh.stdin.write(b"still here\n")
            ssh.stdin.flush()
            assert ssh.stdout.readline() == b"still here\n"
        finally:
            ssh.terminate()
            ssh.communicate(timeout=DEADLINE_S)
    # How it died is the kernel's to tell, and it tells only the privileged.
    assert ide["disconnect_cause"] in {"ide.backend_killed", "ide.backend_gone"}
    assert ide["disconnect_expected"] is False


def test_a_forward_to_anything_else_is_no_ide(stack: Stack) -> None:
    before, local = stack.ids(), free_port()
    # A path that only has the marker in it, as a Gradle daemon's class path does.
    with (
        backend(stack, "/opt/com.jetbrains.toolbox/lib.jar") as (_, port),
        stack.one_new_row() as row,
    ):
        ssh = stack.spawn_ssh("-N", "-L", f"127.0.0.1:{local}:127.0.0.1:{port}", stack.host)
        try:
            wait_for("the forwarded port", lambda: listens(local) or None)
            with socket.create_connection(("127.0.0.1", local), 10) as channel:
                assert echoes(channel)
        finally:
            ssh.terminate()
            ssh.communicate(timeout=DEADLINE_S)
    assert new_rows(stack, before, "jetbrains") == []
    assert stack.explain(row["id"])["children"] == []


def test_agent_forwarding_reaches_the_users_keys(stack: Stack, tmp_path: Path) -> None:
    """What Gateway's and Code's git need: the ssh-agent of the laptop, in the workspace."""
    path = tmp_path / "agent.sock"
    agent = subprocess.Popen(
        ["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL, env=stack.env
    )
    try:
        wait_for("the ssh-agent", lambda: path.exists() or None)
        env = {**stack.env, "SSH_AUTH_SOCK": str(path)}
        key = stack.root / "client" / "ssh" / "id_ed25519"
        subprocess.run(["ssh-add", "-q", str(key)], env=env, check=True, capture_output=True)
        want = subprocess.check_output(["ssh-add", "-L"], env=env, text=True)
        done = subprocess.run(
            stack.ssh_argv("-A", stack.host, "ssh-add -L"),
            env=env,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=DEADLINE_S,
        )
        assert (done.returncode, done.stdout) == (0, want)
    finally:
        agent.terminate()
        agent.wait(DEADLINE_S)
        assert children_of(agent.pid) == []
