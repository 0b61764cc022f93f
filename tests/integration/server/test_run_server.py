"""The server as a process: how it starts, how it stops, what it says, and what cannot disturb it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import stat
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.deadline import DEADLINE_S
from tests.support.forked import Forked
from tests.support.server.live_server import device_key, running
from tether.__main__ import main
from tether.net.clock import SystemClock
from tether.net.transport import http_server
from tether.net.transport.http_server import bind
from tether.protocol.messages.tunnel import TunnelGrant, TunnelOffer
from tether.run.server import CannotStart, Server, ServerSettings
from tether.server.auth.keys import BadKeyFile, load_keys
from tether.server.settings import BadSetting, TrustedProxies
from tether.version import VERSION


class Program:
    """`tether server` in a process of its own; its log, line by line."""

    def __init__(self, data_dir: Path, *more: str, listen: str = "127.0.0.1:0") -> None:
        self.log = data_dir.parent / "server.log"
        self.log.touch(mode=0o600)
        self._offset = self.log.stat().st_size
        arguments = ["server", "--listen", listen, "--data-dir", str(data_dir)]
        arguments += ["--log-format", "json", *more]
        self.process = Forked(partial(main, arguments), self.log, os.environ)

    def lines(self) -> list[dict[str, Any]]:
        with self.log.open("rb") as file:
            file.seek(self._offset)
            return [json.loads(line) for line in file.read().splitlines() if line.startswith(b"{")]

    def wait_event(self, name: str) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            assert self.process.poll() is None or name == "server stopped", self.log.read_text()
            return next((line for line in self.lines() if line["event"] == name), None)

        found: dict[str, Any] = wait_for(look)
        return found

    def ready(self) -> str:
        """Wait until it serves; its URL."""
        return str(self.wait_event("server ready")["url"])

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal it, and wait; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(DEADLINE_S)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(DEADLINE_S)


def wait_for(look: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + DEADLINE_S
    while (found := look()) is None:
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)  # another process: there is no event of ours to wait for
    return found


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def start(data_dir: Path) -> Iterator[Callable[..., Program]]:
    started: list[Program] = []

    def starting(*more: str, **options: Any) -> Program:
        started.append(Program(data_dir, *more, **options))
        return started[-1]

    yield starting
    for program in started:
        program.end()


def get(url: str, path: str, token: str = "") -> Any:
    request = urllib.request.Request(url + path, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
        return json.loads(answer.read())


# -- starting -----------------------------------------------------------------------------------


def test_the_first_start_makes_everything_private(
    data_dir: Path, start: Callable[..., Program]
) -> None:
    program = start()
    url = program.ready()
    token = (data_dir / "admin-token").read_text().strip()
    assert get(url, "/api/v1/whoami", token)["user"] == "admin"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in data_dir.iterdir()}
    assert {"admin-token", "server.db", "ssh-user-ca", "ticket-key.pem"} <= set(modes)
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
    assert program.stop() == 0
    assert token not in program.log.read_text()


def test_server_ready_says_where(data_dir: Path, start: Callable[..., Program]) -> None:
    line = start().wait_event("server ready")
    assert line["url"].startswith("http://127.0.0.1:")
    assert line["data_dir"] == str(data_dir)
    assert (line["version"], line["program"]) == (VERSION, "server")


def test_a_second_start_keeps_keys_and_token(data_dir: Path, start: Callable[..., Program]) -> None:
    def secrets() -> dict[str, bytes]:
        names = ("admin-token", "ssh-user-ca", "ticket-key.pem")
        return {name: (data_dir / name).read_bytes() for name in names}

    first = start()
    first.ready()
    before = secrets()
    assert first.stop() == 0
    second = start()
    get(second.ready(), "/api/v1/whoami", before["admin-token"].decode().strip())
    assert secrets() == before


def one_line(program: Program) -> str:
    assert program.process.wait(DEADLINE_S) == 1
    text = program.log.read_text()
    assert text.startswith("tether: ")
    assert text.count("\n") == 1
    return text


def test_a_port_that_is_taken_is_one_line(start: Callable[..., Program]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        text = one_line(start(listen=listen))
    assert text == f"tether: {listen} cannot be listened at: Address already in use\n"


def test_a_data_directory_belongs_to_one_server(
    data_dir: Path, tmp_path: Path, start: Callable[..., Program]
) -> None:
    first = start()
    first.ready()
    log = tmp_path / "server.log"
    log.write_text("")
    second = start()
    assert second.process.wait(DEADLINE_S) == 1
    who = f"another `tether server` (pid {first.process.pid})"
    assert f"{who} already uses {data_dir}" in log.read_text()


def test_a_damaged_key_is_one_line_and_is_not_replaced(
    data_dir: Path, start: Callable[..., Program]
) -> None:
    data_dir.mkdir()
    (data_dir / "ssh-user-ca").write_text("garbage")
    text = one_line(start())
    assert "holds no Ed25519 key" in text
    assert (data_dir / "ssh-user-ca").read_text() == "garbage"


@pytest.mark.parametrize("listen", ["nonsense", "127.0.0.1", "127.0.0.1:99999", ":80"])
def test_an_address_that_is_none_is_a_usage_error(
    start: Callable[..., Program], listen: str
) -> None:
    assert start(listen=listen).process.wait(DEADLINE_S) == 2


# -- stopping -----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_it_in_order_and_its_sender_is_named(
    data_dir: Path, start: Callable[..., Program], number: signal.Signals
) -> None:
    program = start()
    program.ready()
    assert program.stop(number) == 0
    lines = {line["event"]: line for line in program.lines()}
    actor = lines["server stopping"]["actor"]
    assert actor == f"signal:{int(number)} from pid {os.getpid()} uid {os.getuid()}"
    assert "server stopped" in lines
    again = start()
    again.ready()
    assert "previous run died" not in [line["event"] for line in again.lines()]


def test_a_server_that_was_killed_is_known_to_have_died(start: Callable[..., Program]) -> None:
    first = start()
    first.ready()
    assert first.stop(signal.SIGKILL) == -signal.SIGKILL
    second = start()
    second.ready()
    (line,) = [line for line in second.lines() if line["event"] == "previous run died"]
    assert line["level"] == "warning"


def test_it_stops_whoever_clings_to_it(start: Callable[..., Program]) -> None:
    program = start()
    port = int(program.ready().rpartition(":")[2])
    with contextlib.ExitStack() as clinging:
        for first in (b"", b"GET /derp HTT", UPGRADE % b"/api/v1/control", UPGRADE % b"/derp"):
            sock = clinging.enter_context(socket.create_connection(("127.0.0.1", port)))
            sock.sendall(first)
        assert program.stop() == 0


UPGRADE = (
    b"GET %s HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


# -- garbage ------------------------------------------------------------------------------------


def endless(size: int) -> Iterator[bytes]:
    for _ in range(size // 65536):
        yield b"A" * 65536


GARBAGE: dict[str, Callable[[], Iterator[bytes]]] = {
    "random bytes": lambda: iter([os.urandom(4096)]),
    "nothing": lambda: iter([]),
    "100 MB without an end of line": lambda: endless(100 << 20),
    "half a request": lambda: iter([b"GET /healthz HTTP/1.1\r\nHo"]),
    "half an upgrade": lambda: iter([(UPGRADE % b"/api/v1/control")[:100]]),
    "an upgrade without a token": lambda: iter([UPGRADE % b"/api/v1/control"]),
    "an upgrade of the relay": lambda: iter([UPGRADE % b"/derp"]),
    "an upgrade of nothing": lambda: iter([UPGRADE % b"/%00/../x"]),
    "frames before the answer": lambda: iter([UPGRADE % b"/derp" + os.urandom(2000)]),
    "a body that never comes": lambda: iter(
        [b"POST /api/v1/tokens HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n{"]
    ),
    "TLS": lambda: iter([b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(500)]),
    "SSH": lambda: iter([b"SSH-2.0-OpenSSH_9.2\r\n"]),
}


def test_garbage_disturbs_nobody(start: Callable[..., Program]) -> None:
    program = start()
    url = program.ready()
    port = int(url.rpartition(":")[2])
    for make in GARBAGE.values():
        with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as sock:
            with contextlib.suppress(OSError):  # it may hang up on us at any moment
                for part in make():
                    sock.sendall(part)
            assert get(url, "/healthz") == {"status": "ok"}
    assert program.process.poll() is None
    resident = int(Path(f"/proc/{program.process.pid}/statm").read_text().split()[1]) * 4096
    assert resident < 400 << 20
    errors = [line for line in program.lines() if line["level"] in ("error", "critical")]
    assert errors == []
    assert program.stop() == 0


@pytest.mark.anyio
async def test_who_does_not_finish_a_request_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "REQUEST_S", 0.1)
    async with running(tmp_path) as live:
        for half in (
            b"",
            b"GET /heal",
            b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", live.port)
            writer.write(half)
            with contextlib.suppress(ConnectionResetError):
                await asyncio.wait_for(reader.read(), DEADLINE_S)
            writer.close()


@pytest.mark.anyio
async def test_a_request_that_comes_in_pieces_is_served(tmp_path: Path) -> None:
    async with running(tmp_path) as live:
        reader, writer = await asyncio.open_connection("127.0.0.1", live.port)
        for _ in range(2):  # twice over one connection
            for piece in (b"GET /healthz HT", b"TP/1.1\r\nHost", b": x\r\n\r\n"):
                writer.write(piece)
                await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            assert await reader.readexactly(15) == b'{"status":"ok"}'
        writer.close()


# -- parts --------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_start_that_fails_leaves_nothing_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    (tmp_path / "server.db").write_text("this is no database, " * 100)
    with pytest.raises(CannotStart, match="no database"):
        await Server.start(ServerSettings(data_dir=tmp_path, port=0), SystemClock())
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.anyio
async def test_peers_are_sent_to_the_external_url_where_there_is_one(tmp_path: Path) -> None:
    url = "https://tether.example.com"
    async with running(tmp_path, external_url=f"{url}/") as live:
        assert live.server.url == url
        _, token = await live.workspace()
        await live.agent(token)
        client = await live.client()
        grant = await client.request(public_key=device_key())
    assert isinstance(grant, TunnelGrant)
    assert grant.relay_url == "wss://tether.example.com/derp"


@pytest.mark.anyio
async def test_a_server_that_listens_everywhere_sends_peers_back_the_way_they_came(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, host="0.0.0.0") as live:
        _, token = await live.workspace()
        live.host = "localhost"
        agent = await live.agent(token)
        live.host = "127.0.0.1"
        client = await live.client()
        grant = await client.request(public_key=device_key())
        offer = await agent.expect(TunnelOffer)
    assert isinstance(grant, TunnelGrant)
    assert grant.relay_url == f"ws://127.0.0.1:{live.port}/derp"
    assert offer.relay_url == f"ws://localhost:{live.port}/derp"


def test_keys_are_made_once_and_read_again(tmp_path: Path) -> None:
    first, second = load_keys(tmp_path), load_keys(tmp_path)
    assert first.ticket.private_bytes_raw() == second.ticket.private_bytes_raw()
    assert first.user_ca.export_public_key() == second.user_ca.export_public_key()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ssh-user-ca", "ticket-key.pem"]


@pytest.mark.parametrize("name", ["ssh-user-ca", "ticket-key.pem"])
@pytest.mark.parametrize("content", ["", "garbage", "-----BEGIN PRIVATE KEY-----\nAAAA\n"])
def test_a_key_file_that_holds_no_key_is_refused(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(BadKeyFile, match=name):
        load_keys(tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": -1},
        {"port": 65536},
        {"external_url": "tether.example.com"},
        {"log_format": "xml"},
        {"trusted_proxies": ("proxy.local",)},
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadSetting):
        ServerSettings(data_dir=Path("x"), **wrong)


@pytest.mark.parametrize(
    ("peer", "header", "client"),
    [
        ("10.0.0.1", "198.51.100.11:50123", "198.51.100.11"),
        ("10.0.0.1", "[2001:db8::1]:50123", "2001:db8::1"),
        ("10.0.0.1", "[2001:db8::1]", "2001:db8::1"),
        ("10.0.0.1", "2001:db8::1", "2001:db8::1"),
        ("10.0.0.1", "::ffff:203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "203.0.113.66:1, 10.0.0.2:80", "203.0.113.66"),
        ("10.0.0.1", "203.0.113.9, unknown", "10.0.0.1"),
        ("10.0.0.1", "unknown, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "203.0.113.9:http", "203.0.113.9"),
        ("198.51.100.7", "", "198.51.100.7"),
        ("198.51.100.7", "203.0.113.9", "198.51.100.7"),
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "203.0.113.66, 203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "203.0.113.9, 10.0.0.2", "203.0.113.9"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("", "203.0.113.9", ""),
    ],
)
def test_only_a_trusted_proxy_is_believed_about_its_clients(
    peer: str, header: str, client: str
) -> None:
    assert TrustedProxies(("10.0.0.0/8",)).client((peer, 4), header)[0] == client


@pytest.mark.parametrize(
    ("header", "client"),
    [
        ("for=203.0.113.9", ("203.0.113.9", 0)),
        ('For="203.0.113.9:4711";proto=https;by=10.0.0.1', ("203.0.113.9", 4711)),
        ('for="[2001:db8::1]:4711", for=10.0.0.2', ("2001:db8::1", 4711)),
        ("for=203.0.113.66, for=203.0.113.9;host=a", ("203.0.113.9", 0)),
        ('for="_hidden"', ("10.0.0.1", 4)),
        ("for=unknown", ("10.0.0.1", 4)),
        ("proto=https", ("10.0.0.1", 4)),
        ('for="203.0.113.9:_port"', ("203.0.113.9", 0)),
        ('for="unclosed', ("10.0.0.1", 4)),
        (";;=,,", ("10.0.0.1", 4)),
    ],
)
def test_the_standard_header_says_the_same(header: str, client: tuple[str, int]) -> None:
    proxies = TrustedProxies(("10.0.0.0/8",))
    assert proxies.client(("10.0.0.1", 4), "", header) == client
    assert proxies.client(("10.0.0.1", 4), "192.0.2.1:5", header) == ("192.0.2.1", 5)
    assert proxies.client(("198.51.100.7", 4), "", header) == ("198.51.100.7", 4)


def test_a_proxy_of_ours_is_known_by_its_address() -> None:
    ours = TrustedProxies(("10.0.0.0/8",))
    assert [ours.trusts(peer) for peer in ("10.3.0.9", "203.0.113.9", "")] == [True, False, False]


def test_nobody_is_a_trusted_proxy_by_default() -> None:
    assert TrustedProxies(()).client(("127.0.0.1", 4), "203.0.113.9") == ("127.0.0.1", 4)


def test_a_taken_address_cannot_be_bound() -> None:
    with bind("127.0.0.1", 0) as first:
        first.listen()
        with pytest.raises(OSError, match="in use"):
            bind("127.0.0.1", first.getsockname()[1])
