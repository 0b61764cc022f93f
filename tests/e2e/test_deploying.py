"""The configurations of `docs/deploying.md`, run as they stand there, but for addresses and paths."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.e2e.stack import Program, Stack, free_port, wait_for
from tests.support.net.certificates import TestAuthority
from tether.cli.api import Api
from tether.client.errors import Failure
from tether.config import ClientConfig

pytestmark = pytest.mark.real

PAGE = Path(__file__).resolve().parents[2] / "docs" / "deploying.md"


def example(language: str) -> str:
    found = re.search(rf"(?s)```{language}\n(.*?)```", PAGE.read_text())
    assert found is not None
    return found[1]


class ProxiedStack(Stack):
    """A stack that everybody reaches through a proxy, which ends TLS before its server."""

    def __init__(self, root: Path, proxy: Callable[[Path, str], list[str]]) -> None:
        self.authority = TestAuthority(root)
        certificate, key = self.authority.issue("proxy")
        (root / "both.pem").write_bytes(certificate.read_bytes() + key.read_bytes())
        self.front, self._proxy = free_port(), proxy
        super().__init__(root)

    def start_server(self) -> Program:
        behind = f"127.0.0.1:{self.port}"
        self.url = f"https://127.0.0.1:{self.front}"
        self.env["TETHER_CA_FILE"] = str(self.authority.file)
        text = (
            example("nginx" if self._proxy is nginx else "haproxy")
            .replace("127.0.0.1:7080", behind)
            .replace("/etc/ssl/tether/fullchain.pem", str(self.root / "proxy.crt"))
            .replace("/etc/ssl/tether/privkey.pem", str(self.root / "proxy.key"))
            .replace("/etc/ssl/tether/both.pem", str(self.root / "both.pem"))
            .replace("listen 443", f"listen 127.0.0.1:{self.front}")
            .replace("bind :443", f"bind 127.0.0.1:{self.front}")
        )
        argv = self._proxy(self.root, text)
        proxy = Program(argv, self.root / "proxy.log", self.env)
        self._started.append(proxy)
        known = ("--external-url", self.url, "--trusted-proxy", "127.0.0.1")
        data = ("--data-dir", str(self.root / "server"), "--log-format", "json")
        self.server = self._start("server", ["server", "--listen", behind, *known, *data])
        self.server.wait_event("server ready")
        wait_for("the proxy", self._answers)
        return self.server

    def _answers(self) -> bool:
        try:
            Api(ClientConfig(url=self.url, token="x")).get("/whoami")
        except Failure as refused:
            return "token" in str(refused)
        return False


def nginx(root: Path, servers: str) -> list[str]:
    temporary = "".join(
        f"{kind}_temp_path {root}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (root / "nginx.conf").write_text(
        f"pid {root}/nginx.pid;\nerror_log stderr warn;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{temporary}{servers}}}\n"
    )
    return ["nginx", "-p", str(root), "-c", str(root / "nginx.conf"), "-g", "daemon off;"]


def haproxy(root: Path, config: str) -> list[str]:
    (root / "haproxy.cfg").write_text(config)
    return ["haproxy", "-db", "-f", str(root / "haproxy.cfg")]


@pytest.fixture(params=[nginx, haproxy], ids=["nginx", "haproxy"])
def stack(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stack]:
    if shutil.which(request.param.__name__) is None:
        pytest.skip(f"there is no {request.param.__name__} here")
    root = tmp_path / "s"
    root.mkdir()
    monkeypatch.setenv("TETHER_CA_FILE", str(root / "authority.pem"))  # for the stack's own calls
    made = ProxiedStack(root, request.param)
    try:
        yield made
    finally:
        made.close()


def test_a_session_runs_through_the_proxy_of_the_page(stack: Stack) -> None:
    with stack.one_new_row() as row:
        done = stack.ssh("echo here")
    assert (done.returncode, done.stdout, done.stderr) == (0, "here\n", "")
    assert (row["disconnect_reason"], row["client_ip"]) == ("graceful", "127.0.0.1")
    head = subprocess.run(
        ["curl", "-sSk", "-D-", "-o/dev/null", f"{stack.url}/healthz"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "strict-transport-security: max-age=31536000" in head.stdout.lower()
