"""The life of `tether up`: kills, restarts, signals, and what it leaves behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.deadline import DEADLINE_S
from tests.support.e2e.stack import TETHER, children_of, free_port, wait_for

pytestmark = [pytest.mark.real, pytest.mark.long]


class Up:
    """A running `tether up` with a user of its own."""

    def __init__(self, root: Path) -> None:
        self.root, self.data = root, root / "data"
        home = root / "home"
        home.mkdir()
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("TETHER", "SSH_"))}
        self.env = {**kept, "HOME": str(home), "TETHER_CONFIG_DIR": str(root / "client")}
        self.listen = f"127.0.0.1:{free_port()}"
        self.said = root / "up.log"
        with self.said.open("wb") as out:
            self.process = subprocess.Popen(
                [*TETHER, "up", "--listen", self.listen, "--data-dir", str(self.data)],
                env=self.env,
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.expect("Ctrl-C stops it.")

    def expect(self, text: str, seconds: float = DEADLINE_S) -> None:
        def check() -> bool:
            assert text in self.said.read_text() or self.process.poll() is None, (
                self.said.read_text()
            )
            return text in self.said.read_text()

        wait_for(f"{text!r} of `tether up`", check, seconds)

    def tether(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*TETHER, *arguments],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            stdin=subprocess.DEVNULL,
        )

    def child(self, name: str) -> int:
        def check() -> int | None:
            for pid in children_of(self.process.pid):
                if f"\0{name}\0".encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return pid
            return None

        return wait_for(f"the {name}", check)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    if shutil.which("ssh") is None:
        pytest.skip("OpenSSH's ssh is not installed")
    started = Up(tmp_path)
    try:
        yield started
    finally:
        started.close()


def test_one_command_and_then_ssh(up: Up) -> None:
    done = up.tether("ssh", "local", "--", "echo hello; exit 4")
    assert (done.returncode, done.stdout, done.stderr) == (4, "hello\n", "")
    assert (up.data / "agent-token").stat().st_mode & 0o777 == 0o600
    assert up.tether("config-ssh").returncode == 0
    config = up.root / "home" / ".ssh" / "config"
    done = subprocess.run(
        ["ssh", "-F", str(config), "local.tether", "echo stock"],
        env=up.env,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        stdin=subprocess.DEVNULL,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "stock\n", "")


def test_a_second_one_on_the_same_data_is_refused(up: Up) -> None:
    done = up.tether("up", "--data-dir", str(up.data))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"tether: another `tether up` (pid {up.process.pid}) already uses {up.data}: "
        "stop it, or choose another --data-dir\n"
    )


@pytest.mark.parametrize("name", ["agent", "server"])
def test_a_child_that_is_killed_is_started_again(up: Up, name: str) -> None:
    os.kill(up.child(name), signal.SIGKILL)
    up.expect(f"The {name} was ended by signal 9; restarting it")
    wait_for("a working ssh", lambda: up.tether("ssh", "local", "true").returncode == 0 or None)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_stops_the_agent_first_and_leaves_nothing_behind(up: Up, number: int) -> None:
    pids = [up.child("agent"), up.child("server")]
    os.kill(up.process.pid, number)
    assert up.process.wait(DEADLINE_S) == 0
    said = [line for line in up.said.read_text().splitlines() if line.startswith("Stop")]
    assert said[-3:] == ["Stopping the agent …", "Stopping the server …", "Stopped."]
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []


def test_a_second_ctrl_c_kills_at_once(up: Up) -> None:
    os.kill(up.child("agent"), signal.SIGSTOP)
    up.process.send_signal(signal.SIGINT)
    up.expect("Ctrl-C again kills at once")
    up.expect("Stopping the agent")
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(DEADLINE_S) == 0
    assert "The agent was killed." not in up.said.read_text(), "it was not waited for first"


def test_children_do_not_outlive_a_killed_parent(up: Up) -> None:
    pids = [up.child("agent"), up.child("server")]
    up.process.kill()
    up.process.wait(DEADLINE_S)
    wait_for(
        "the children to end",
        lambda: not [pid for pid in pids if Path(f"/proc/{pid}").exists()] or None,
    )


def test_a_restart_keeps_workspace_port_and_log(up: Up) -> None:
    up.process.terminate()
    assert up.process.wait(DEADLINE_S) == 0
    with up.said.open("wb") as out:
        up.process = subprocess.Popen(
            [*TETHER, "up", "--data-dir", str(up.data)], env=up.env, stdout=out, stderr=out
        )
    up.expect("Ctrl-C stops it.")
    assert f"http://{up.listen}" in up.said.read_text()
    assert "Creating" not in up.said.read_text()
    assert (up.data / "logs" / "server.log.1").exists()
    assert up.tether("ssh", "local", "true").returncode == 0
