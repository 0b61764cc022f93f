"""A whole Tether on this machine for one test module: real server, real agent, the stock ssh.

Everything listens on loopback, lives in one temporary directory, and is stopped by pid in `close`.
Nothing here sleeps: waiting polls a condition with a deadline, and a missed deadline shows the logs.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from tests.support.deadline import DEADLINE_S
from tests.support.forked import Forked
from tether.__main__ import main
from tether.cli.api import Api
from tether.config import ClientConfig

T = TypeVar("T")
TETHER = [sys.executable, "-m", "tether"]


def free_port() -> int:
    """A TCP port that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_for(what: str, check: Callable[[], T | None], seconds: float = DEADLINE_S) -> T:
    """The first truthy answer of `check`; fails with `what` after `seconds`."""
    deadline, pause = time.monotonic() + seconds, 0.02
    while True:
        if answer := check():
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(pause)  # polling another process; never a substitute for an event of ours
        pause = min(pause * 1.5, 0.3)


def children_of(pid: int) -> list[int]:
    """The live children of a process."""
    with contextlib.suppress(OSError):
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


class Program:
    """One process of ours with its log; with `own_python`, it shares its imports with no other."""

    process: Forked | subprocess.Popen[bytes]

    def __init__(
        self, argv: list[str], log: Path, env: dict[str, str], *, own_python: bool = False
    ) -> None:
        self.log = log
        self._offset = log.stat().st_size if log.exists() else 0
        if argv[: len(TETHER)] == TETHER and not own_python:
            log.touch()
            self.process = Forked(partial(main, argv[len(TETHER) :]), log, env)
            return
        with log.open("ab") as stderr:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr, env=env
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def events(self, name: str | None = None, *, all_runs: bool = False) -> list[dict[str, Any]]:
        """The JSON log lines of this run (or of all runs into the same file)."""
        lines = []
        with self.log.open("rb") as file:
            file.seek(0 if all_runs else self._offset)
            for raw in file:
                with contextlib.suppress(ValueError):
                    line = json.loads(raw)
                    if isinstance(line, dict) and name in (None, line.get("event")):
                        lines.append(line)
        return lines

    def wait_event(self, name: str, seconds: float = DEADLINE_S) -> dict[str, Any]:
        def check() -> dict[str, Any] | None:
            found = self.events(name)
            if not found and self.process.poll() is not None:
                tail = self.log.read_text()[-3000:]
                raise AssertionError(f"{self.log.stem} exited {self.process.returncode}:\n{tail}")
            return found[0] if found else None

        return wait_for(f"log event {name!r} in {self.log}", check, seconds)

    def stop(self, number: int = signal.SIGTERM, seconds: float = DEADLINE_S) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(DEADLINE_S)
            raise AssertionError(f"{self.log.stem} ignored signal {number}") from None


class Stack:
    """A server, one workspace `dev` with its agent, and a client configuration."""

    def __init__(self, root: Path, workspace: str = "dev", *, own_python: bool = False) -> None:
        self.root, self.workspace = root, workspace
        self._own_python = own_python
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        home = root / "home"
        home.mkdir(parents=True)
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("TETHER", "SSH_"))},
            "HOME": str(home),
            "TETHER_CONFIG_DIR": str(root / "client"),
            "TETHER_WAIT": "0",  # most tests of an agent that is away want to know it at once
        }
        self.home = home
        self.ssh_config = root / "ssh_config"
        self._started: list[Program] = []
        self.server = self.start_server()
        token = (root / "server" / "admin-token").read_text().strip()
        self.api = Api(ClientConfig(url=self.url, token=token))
        self.tether("login", self.url, "--token-file", str(root / "server" / "admin-token"))
        assert token not in self.server.log.read_text()
        created = json.loads(self.tether("workspace", "create", workspace, "--json").stdout)
        self.agent_token = root / "agent-token"
        self.agent_token.write_text(created["agent_token"])
        self.agent_token.chmod(0o600)
        self.agent = self.start_agent()
        self.tether("config-ssh", "--ssh-config-file", str(self.ssh_config))

    # -- programs ----------------------------------------------------------------------

    def start_server(self) -> Program:
        self.server = self._start(
            "server",
            [
                "server",
                "--listen",
                f"127.0.0.1:{self.port}",
                "--data-dir",
                str(self.root / "server"),
                "--log-format",
                "json",
            ],
        )
        self.server.wait_event("server ready")
        return self.server

    def start_agent(
        self, data_dir: str = "agent", wait: bool = True, more: tuple[str, ...] = ()
    ) -> Program:
        agent = self._start(
            data_dir,
            [
                "agent",
                "--server",
                self.url,
                "--token-file",
                str(self.agent_token),
                "--data-dir",
                str(self.root / data_dir),
                "--log-format",
                "json",
                "--resume-vanished-s",
                "1",
                *more,
            ],
        )
        if data_dir == "agent":
            self.agent = agent
        if wait:
            agent.wait_event("agent ready")
        return agent

    def start_relay(self, region: str) -> Program:
        token = self.root / "relay-token"
        if not token.exists():
            token.write_text(self.tether("token", "create", "relays", "--relay").stdout)
        argv = ["relay", "--listen", "127.0.0.1:0", "--server", self.url, "--region", region]
        argv += ["--token-file", str(token), "--log-format", "json"]
        relay = self._start(f"relay-{region}", argv)
        relay.wait_event("relay ready")
        return relay

    def _start(self, name: str, arguments: list[str]) -> Program:
        log = self.root / f"{name}.log"
        program = Program([*TETHER, *arguments], log, self.env, own_python=self._own_python)
        self._started.append(program)
        return program

    def close(self) -> None:
        for program in reversed(self._started):
            if program.process.poll() is None:
                with contextlib.suppress(AssertionError):
                    program.stop()

    # -- commands ----------------------------------------------------------------------

    def run(
        self, *argv: str, check: bool = False, timeout: float = DEADLINE_S, **more: Any
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            list(argv),
            env=self.env,
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=more.pop("stdin", subprocess.DEVNULL) if "input" not in more else None,
            **more,
        )
        assert not check or done.returncode == 0, (argv, done.returncode, done.stdout, done.stderr)
        return done

    def tether(self, *arguments: str, check: bool = True, **more: Any) -> Any:
        return self.run(*TETHER, *arguments, check=check, **more)

    @property
    def host(self) -> str:
        return f"{self.workspace}.tether"

    def ssh_argv(self, *arguments: str) -> list[str]:
        return ["ssh", "-F", str(self.ssh_config), *arguments]

    def ssh(self, *command: str, **more: Any) -> subprocess.CompletedProcess[str]:
        return self.run(*self.ssh_argv(self.host, *command), **more)

    def spawn_ssh(self, *arguments: str, **more: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.ssh_argv(*arguments),
            env=self.env,
            stdin=more.pop("stdin", subprocess.PIPE),
            stdout=more.pop("stdout", subprocess.PIPE),
            stderr=subprocess.PIPE,
            **more,
        )

    # -- the record ----------------------------------------------------------------------

    def connections(self, **filters: object) -> list[dict[str, Any]]:
        """The connection log, newest first; what `tether connections` shows, without its start."""
        rows = self.api.get("/connections", filters)
        assert isinstance(rows, list)
        return rows

    def sessions(self) -> list[dict[str, Any]]:
        """Rows of tunnels and what ran over them, newest first of each type."""
        return [
            row
            for kind in ("ssh", "sftp", "tunnel")
            for row in self.connections(workspace=self.workspace, type=kind)
        ]

    def ids(self) -> set[str]:
        return {row["id"] for row in self.connections(limit=1000)}

    @contextlib.contextmanager
    def one_new_row(self, seconds: float = DEADLINE_S) -> Iterator[dict[str, Any]]:
        """Whatever happens inside makes exactly one new agent_to_client row; it is filled in."""
        before = self.ids()
        row: dict[str, Any] = {}
        yield row

        def check() -> dict[str, Any] | None:
            new = [
                r
                for r in self.connections(limit=1000)
                if r["id"] not in before and r["connect_type"] == "agent_to_client"
            ]
            assert len(new) <= 1, new
            return new[0] if new and new[0]["disconnected_at"] else None

        row.update(wait_for("one new closed row", check, seconds))

    def explain(self, connection_id: str) -> dict[str, Any]:
        answer = self.api.get(f"/connections/{connection_id}")
        assert isinstance(answer, dict)
        return answer


def truth(row: dict[str, Any]) -> tuple[str, str, bool]:
    """The three fields that the issue's table fixes."""
    return (row["disconnect_reason"], row["disconnect_initiator"], row["disconnect_expected"])
