"""`tether up` from an empty HOME: one command, then the three it says to try, in a real terminal."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.deadline import DEADLINE_S
from tests.support.e2e.stack import TETHER, free_port, truth, wait_for

pytestmark = pytest.mark.real


class Up:
    """One running `tether up` with its own HOME."""

    def __init__(self, root: Path) -> None:
        self.root, self.home = root, root / "home"
        self.home.mkdir()
        self.env = {
            k: v for k, v in os.environ.items() if not k.startswith(("TETHER", "SSH_", "XDG_"))
        } | {"HOME": str(self.home)}
        self.out = root / "up.out"
        self.port = free_port()
        with self.out.open("wb") as out:
            self.process = subprocess.Popen(
                [
                    *TETHER,
                    "up",
                    "--listen",
                    f"127.0.0.1:{self.port}",
                    "--data-dir",
                    str(root / "data"),
                ],
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        wait_for("tether up to be ready", self._ready)

    def _ready(self) -> bool:
        assert self.process.poll() is None, self.out.read_text()
        return "tether connections" in self.out.read_text()

    def run(self, *argv: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            list(argv),
            env=self.env,
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )

    def connections(self, **filters: str) -> list[dict[str, object]]:
        asked = [f"--{name}={value}" for name, value in filters.items()]
        rows: list[dict[str, object]] = json.loads(
            self.run(*TETHER, "connections", "--json", *asked).stdout
        )
        return rows

    def close(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(DEADLINE_S)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    if shutil.which("ssh") is None:
        pytest.skip("OpenSSH's ssh is not installed")
    running = Up(tmp_path_factory.mktemp("up"))
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.close()


def test_it_says_where_it_is_and_what_to_try(up: Up) -> None:
    said = up.out.read_text()
    assert f"http://127.0.0.1:{up.port}" in said
    for command in (
        "tether ssh local",
        "tether config-ssh",
        "ssh local.tether",
        "tether connections",
    ):
        assert command in said


def test_tether_ssh_local_works_at_once(up: Up) -> None:
    done = up.run(*TETHER, "ssh", "local", "--", "uname", "-a")
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        subprocess.check_output(["uname", "-a"], text=True),
        "",
    )


def test_stock_ssh_works_after_config_ssh(up: Up) -> None:
    assert up.run(*TETHER, "config-ssh").returncode == 0
    config = (up.home / ".ssh" / "config").read_text()
    assert up.run(*TETHER, "config-ssh").returncode == 0
    assert (up.home / ".ssh" / "config").read_text() == config, "config-ssh is not idempotent"
    # OpenSSH takes ~ from the password database, not from HOME: name the file.
    done = up.run("ssh", "-F", str(up.home / ".ssh" / "config"), "local.tether", "exit 3")
    assert (done.returncode, done.stderr) == (3, "")


def test_an_interactive_shell_in_a_real_terminal(up: Up) -> None:
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed")
    socket = str(up.root / "tmux")
    tmux = ["tmux", "-S", socket, "-f", "/dev/null"]

    def screen() -> str:
        return up.run(*tmux, "capture-pane", "-p", "-t", "t").stdout

    def keys(*words: str) -> None:
        assert up.run(*tmux, "send-keys", "-t", "t", *words).returncode == 0

    started = up.run(
        *tmux, "new-session", "-d", "-s", "t", "-x", "100", "-y", "30",
        " ".join([*TETHER, "ssh", "local"]) + "; echo left with $?; cat",
    )  # fmt: skip
    assert started.returncode == 0, started.stderr
    try:
        wait_for("a prompt", lambda: re.search(r"[#$%>] ?$", screen().rstrip()) is not None)
        keys("stty size; tty; echo te''ther-$TETHER_WORKSPACE", "Enter")
        wait_for("the size", lambda: "30 100" in screen())
        wait_for("the environment", lambda: "tether-local" in screen())
        assert "/dev/pts/" in screen()
        assert up.run(*tmux, "resize-window", "-t", "t", "-x", "80", "-y", "24").returncode == 0
        keys("clear; stty size", "Enter")
        wait_for("the new size", lambda: "24 80" in screen())
        keys("sleep 1000", "Enter")
        keys("C-c")
        keys("echo int''errupted $?", "Enter")
        wait_for("Ctrl-C to reach the command", lambda: "interrupted 130" in screen())
        keys("exit 4", "Enter")
        wait_for("the exit code", lambda: "left with 4" in screen())
    finally:
        up.run(*tmux, "kill-server")


def test_an_agent_that_is_killed_is_started_again(up: Up) -> None:
    (control,) = [
        r for r in up.connections(type="control", workspace="local") if r["disconnected_at"] is None
    ]
    agent = [
        int(p.name)
        for p in Path("/proc").iterdir()
        if p.name.isdigit() and _is_agent_of(p, up.root / "data")
    ]
    assert len(agent) == 1
    os.kill(agent[0], signal.SIGKILL)
    wait_for(
        "the new agent",
        lambda: up.run(*TETHER, "ssh", "local", "--", "true").returncode == 0 or None,
        30,
    )
    (row,) = [r for r in up.connections(type="control") if r["id"] == control["id"]]
    assert truth(row) == ("process_crashed", "agent", False)
    assert "signal 9" in up.out.read_text()


def _is_agent_of(proc: Path, data: Path) -> bool:
    try:
        words = (proc / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"agent" in words and any(w.startswith(str(data).encode()) for w in words)


def test_ctrl_c_stops_everything_in_order_and_attributed(up: Up) -> None:
    session = subprocess.Popen(
        [*TETHER, "ssh", "local", "--", "echo up; exec sleep 1000"],
        env=up.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    assert session.stdout is not None
    assert session.stdout.readline() == "up\n"
    assert up.close() == 0
    out, err = session.communicate(timeout=DEADLINE_S)
    assert (session.returncode, out) == (255, "")
    assert err.startswith("tether: The workspace's agent was asked to stop")
    server = [
        json.loads(line)
        for line in (up.root / "data" / "logs" / "server.log").read_text().splitlines()
    ]
    ends = [e for e in server if e["event"] == "connection closed"]
    assert truth(ends[-1]) in {
        ("server_shutdown", "agent", True),
        ("server_shutdown", "server", True),
        ("client_closed", "client", True),
    }
    sessions = [e for e in ends if e["connect_type"] == "agent_to_client"]
    assert truth(sessions[-1]) == ("server_shutdown", "agent", True)
    assert [e for e in ends if e["disconnect_reason"] == "unknown"] == []
    with pytest.raises(ProcessLookupError):
        os.kill(up.process.pid, 0)
