"""The whole by TLS, as a company runs it: its own authority, no proxy in between."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.deadline import DEADLINE_S
from tests.support.e2e.stack import TETHER, Program, Stack, free_port
from tests.support.net.certificates import TestAuthority

pytestmark = pytest.mark.real


class TlsStack(Stack):
    """A stack whose server, agent and client are told of a test's own authority."""

    def __init__(self, root: Path) -> None:
        self.authority = TestAuthority(root)
        self.certificate, self.key = self.authority.issue("server")
        super().__init__(root)

    def start_server(self) -> Program:
        self.url = f"https://127.0.0.1:{self.port}"
        self.env["TETHER_CA_FILE"] = str(self.authority.file)
        tls = ("--tls-cert", str(self.certificate), "--tls-key", str(self.key))
        listen = ("--listen", f"127.0.0.1:{self.port}", "--log-format", "json")
        data = ("--data-dir", str(self.root / "server"))
        self.server = self._start("server", ["server", *listen, *data, *tls])
        self.server.wait_event("server ready")
        return self.server


def test_everything_works_by_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "s"
    root.mkdir()
    monkeypatch.setenv("TETHER_CA_FILE", str(root / "authority.pem"))  # for the stack's own calls
    stack = TlsStack(root)
    try:
        with stack.one_new_row() as row:
            done = stack.ssh("echo here")
        assert (done.returncode, done.stdout, done.stderr) == (0, "here\n", "")
        assert (row["disconnect_reason"], row["disconnect_initiator"]) == ("graceful", "client")
        done = stack.tether("ssh", "dev", "--", "echo there")
        assert (done.returncode, done.stdout, done.stderr) == (0, "there\n", "")
    finally:
        stack.close()


def test_a_server_elsewhere_is_not_reached_in_clear_text(tmp_path: Path) -> None:
    """192.0.2.1 is nobody's (RFC 5737), and is not dialled."""
    token, url = tmp_path / "token", "http://192.0.2.1:7080"
    token.write_text("tether_agent_" + "A" * 43)
    env = {"TETHER_CONFIG_DIR": str(tmp_path / "client"), "PATH": "/usr/bin:/bin"}
    data = ("--data-dir", str(tmp_path / "data"))
    for log, argv in {
        "agent": ("agent", "--server", url, "--token-file", str(token), *data),
        "login": ("login", url, "--token-file", str(token)),
    }.items():
        program = Program([*TETHER, *argv], tmp_path / f"{log}.log", env)
        try:
            status = program.process.wait(DEADLINE_S)
        finally:
            program.stop()
        said = (tmp_path / f"{log}.log").read_text()
        assert status == 1, said
        assert "in clear text over the network: use https://" in said


def test_a_leave_to_send_clear_text_is_a_loud_line(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("tether_agent_" + "A" * 43)
    env = {"TETHER_CONFIG_DIR": str(tmp_path / "client"), "PATH": "/usr/bin:/bin"}
    argv = [
        *("agent", "--server", f"http://localhost.:{free_port()}", "--token-file", str(token)),
        *("--data-dir", str(tmp_path / "data"), "--log-format", "json", "--insecure-http"),
    ]
    program = Program([*TETHER, *argv], tmp_path / "agent.log", env)
    try:
        told = program.wait_event("SERVER IS REACHED IN CLEAR TEXT")
    finally:
        program.stop()
    assert told["level"] == "warning"
