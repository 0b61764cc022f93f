"""The client's network: what its commands measure, and what a session lives through, for real."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.deadline import DEADLINE_S
from tests.support.e2e.stack import TETHER, Stack, free_port, wait_for
from tests.support.net.proxy import Proxy, proxying

pytestmark = [pytest.mark.real, pytest.mark.long]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    made = Stack(tmp_path_factory.mktemp("network") / "s")
    try:
        yield made
    finally:
        made.close()


# -- commands --------------------------------------------------------------------------------


def test_ping_tells_the_round_trip_and_the_path(stack: Stack) -> None:
    told = json.loads(stack.tether("ping", "dev", "-n", "3", "--interval", "0.1", "--json").stdout)
    assert (told["sent"], told["answered"], told["loss"]) == (3, 3, 0.0)
    assert 0 < told["rtt_ms"]["min"] <= told["rtt_ms"]["avg"] <= told["rtt_ms"]["max"] < 5000
    assert told["method"] in ("direct", "derp")
    plain = stack.tether("ping", "dev", "--until-direct", "-n", "20", "--interval", "0.2").stdout
    assert "ms (direct to 127.0.0.1:" in plain.splitlines()[-2]
    assert plain.splitlines()[-1].startswith(f"{len(plain.splitlines()) - 1} sent, ")


def test_speedtest_measures_both_directions(stack: Stack) -> None:
    told = json.loads(stack.tether("speedtest", "dev", "--time", "0.3", "--json").stdout)
    assert [row["direction"] for row in told["results"]] == ["up", "down"]
    assert all(row["bytes"] > 100_000 and row["mbit_per_s"] > 1 for row in told["results"])


def test_netcheck_reaches_the_server_and_its_regions(stack: Stack) -> None:
    told = json.loads(stack.tether("netcheck", "--json").stdout)
    assert (told["reachable"], told["server"], told["error"]) == (True, stack.url, "")
    assert told["control_rtt_ms"] < 5000


def test_a_server_that_is_not_there_is_one_sentence_and_an_exit_code(stack: Stack) -> None:
    env = {**stack.env, "TETHER_URL": f"http://127.0.0.1:{free_port()}", "TETHER_TOKEN": "t"}
    for argv, code in ((["ping", "dev"], 255), (["port-forward", "dev", "--tcp", "1"], 255)):
        done = subprocess.run(
            [*TETHER, *argv], env=env, capture_output=True, text=True, timeout=DEADLINE_S
        )
        assert done.returncode == code
        assert done.stderr.startswith("tether: nothing listens at 127.0.0.1:")
        assert len(done.stderr.splitlines()) == 1
    done = subprocess.run(
        [*TETHER, "netcheck"], env=env, capture_output=True, text=True, timeout=DEADLINE_S
    )
    assert (done.returncode, "not reachable: nothing listens" in done.stdout) == (1, True)


@contextlib.contextmanager
def udp_echo() -> Iterator[int]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))

        def serve() -> None:
            with contextlib.suppress(OSError):
                while (got := sock.recvfrom(2000))[0] != b"stop":
                    sock.sendto(b"re:" + got[0], got[1])

        thread = threading.Thread(target=serve)
        thread.start()
        port = sock.getsockname()[1]
        try:
            yield port
        finally:
            sock.sendto(b"stop", ("127.0.0.1", port))
            thread.join(5)


def test_ports_of_a_workspace_are_brought_here_and_ctrl_c_is_no_failure(stack: Stack) -> None:
    web = subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=stack.root,
    )
    assert web.stdout is not None
    port = int(web.stdout.readline().split()[5])
    (stack.root / "page").write_text("over the tunnel")
    here, datagrams = free_port(), free_port()
    with udp_echo() as echo:
        forward = subprocess.Popen(
            [
                *(*TETHER, "port-forward", "dev", "--json", "--tcp", f"{here}:{port}"),
                *("--udp", f"{datagrams}:{echo}"),
            ],
            env=stack.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert forward.stdout is not None
        try:
            listening = 0
            while listening < 2:
                line = forward.stdout.readline()
                assert line, forward.communicate(timeout=DEADLINE_S)
                listening += json.loads(line)["event"] == "listening"
            with socket.create_connection(("127.0.0.1", here), 10) as sock:
                sock.sendall(b"GET /page HTTP/1.0\r\n\r\n")
                answer = b""
                while data := sock.recv(65536):
                    answer += data
            assert answer.endswith(b"over the tunnel")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.settimeout(10)
                sock.sendto(b"hello", ("127.0.0.1", datagrams))
                assert sock.recv(100) == b"re:hello"
            forward.send_signal(signal.SIGINT)
            out, err = forward.communicate(timeout=DEADLINE_S)
        finally:
            for process in (forward, web):
                process.kill()
                process.wait()
    events = [json.loads(line) for line in out.splitlines()]
    assert (forward.returncode, err) == (0, "")
    assert {e["event"] for e in events} >= {"opened", "closed"}


# -- proxies -----------------------------------------------------------------------------------


@contextlib.contextmanager
def proxy(**options: Any) -> Iterator[Proxy]:
    """A proxy in a thread of its own."""
    up, done, made = threading.Event(), [], []

    async def serve() -> None:
        stop = asyncio.Event()
        async with proxying(**options) as running:
            made.append(running)
            done.append((asyncio.get_running_loop(), stop))
            up.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert up.wait(10)
    try:
        yield made[0]
    finally:
        loop, stop = done[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "ALL_PROXY"])
def test_a_session_goes_through_a_proxy_that_wants_credentials(stack: Stack, variable: str) -> None:
    with proxy(user="alice", password="p@ss/w") as gate:
        env = {**stack.env, variable: gate.url()}
        done = subprocess.run(
            stack.ssh_argv(stack.host, "echo through"),
            env=env,
            capture_output=True,
            timeout=DEADLINE_S,
        )
        assert (done.returncode, done.stdout) == (0, b"through\n")
        target = f"127.0.0.1:{stack.port}"
        assert gate.joined[:2] == [target, target]  # the control link, and the relay's leg


def test_a_proxy_that_refuses_is_one_clear_sentence(stack: Stack) -> None:
    with proxy(user="alice", password="p@ss/w") as gate:
        env = {**stack.env, "HTTPS_PROXY": gate.url(credentials=False)}
        done = subprocess.run(
            [*TETHER, "ssh", "dev", "true"],
            env=env,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
        )
        assert done.returncode == 255
        assert done.stderr == (
            f"tether: the proxy 127.0.0.1:{gate.port} wants a user name and password: write them"
            " into HTTPS_PROXY, as http://USER:PASSWORD@HOST:PORT\n"
        )


# -- what a session lives through ----------------------------------------------------------------


class Shell:
    """A command of ssh that answers each line."""

    def __init__(self, stack: Stack) -> None:
        self.ssh = stack.spawn_ssh(stack.host, "while read line; do echo got $line; done")

    def say(self, word: str) -> None:
        assert self.ssh.stdin is not None
        self.ssh.stdin.write(f"{word}\n".encode())
        self.ssh.stdin.flush()

    def hears(self, word: str) -> None:
        assert self.ssh.stdout is not None
        assert self.ssh.stdout.readline() == f"got {word}\n".encode()

    def finish(self) -> tuple[int, str]:
        assert self.ssh.stdin is not None and self.ssh.stderr is not None
        self.ssh.stdin.close()
        code = self.ssh.wait(DEADLINE_S)
        return code, self.ssh.stderr.read().decode()


def test_a_session_survives_the_death_of_the_server_and_nothing_is_said(stack: Stack) -> None:
    shell = Shell(stack)
    shell.say("one")
    shell.hears("one")
    stack.tether("ping", "dev", "--until-direct", "-n", "20", "--interval", "0.2")
    stack.server.stop(signal.SIGKILL)
    try:
        shell.say("meanwhile")
        shell.hears("meanwhile")
    finally:
        stack.start_server()
    shell.say("after")
    shell.hears("after")
    assert shell.finish() == (0, "")


def test_a_session_through_the_embedded_relay_moves_before_a_planned_stop(
    own_stack: Stack,
) -> None:
    own_stack.agent.stop()
    own_stack.start_agent(more=("--direct-listen", "off"))
    shell = Shell(own_stack)
    shell.say("one")
    shell.hears("one")
    own_stack.start_relay("fra")
    own_stack.server.stop()
    try:
        shell.say("meanwhile")
        shell.hears("meanwhile")
    finally:
        own_stack.start_server()
    shell.say("after")
    shell.hears("after")
    (row_id,) = {row["id"] for row in own_stack.sessions()}
    assert shell.finish() == (0, "")
    told = wait_for("the end", lambda: ended_paths(own_stack, row_id))
    assert told == [("used", "embedded"), ("used", "fra")]


def ended_paths(stack: Stack, connection_id: str) -> list[tuple[str, str]] | None:
    """How the connection went, once it is over: each change of the way that was used."""
    row = stack.explain(connection_id)
    if row["disconnected_at"] is None:
        return None
    return [(one["event"], one["where"]) for one in row["path_events"] if one["event"] != "lost"]


def test_a_gap_is_told_in_two_plain_lines_where_there_is_no_terminal(stack: Stack) -> None:
    shell = Shell(stack)
    shell.say("one")
    shell.hears("one")
    stack.agent.process.send_signal(signal.SIGSTOP)
    try:
        shell.say("meanwhile")
        assert shell.ssh.stderr is not None
        lost = shell.ssh.stderr.readline().decode()
    finally:
        stack.agent.process.send_signal(signal.SIGCONT)
    shell.hears("meanwhile")
    code, err = shell.finish()
    assert lost == "tether: connection to dev lost (no answer); reconnecting…\n"
    assert code == 0
    assert err.startswith("tether: connection to dev resumed after ")
    assert len(err.splitlines()) == 1


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
@pytest.mark.parametrize("program", ["vim -u NONE -N", "less"])
def test_the_screen_is_whole_again_after_a_gap(stack: Stack, program: str, tmp_path: Path) -> None:
    if shutil.which(program.split()[0]) is None:
        pytest.skip(f"{program} is not installed")
    text, name = tmp_path / "text", f"tether-test-{uuid.uuid4().hex[:12]}"
    text.write_text("".join(f"line {n} of a file\n" for n in range(1, 100)))

    def tmux(*words: str) -> str:
        argv = ["tmux", "-u", "-L", name, *words]
        return subprocess.run(
            argv, env=stack.env, check=True, capture_output=True, text=True
        ).stdout

    def screen() -> list[str]:
        return tmux("capture-pane", "-p").splitlines()

    command = " ".join(stack.ssh_argv("-tt", stack.host, f"'{program} {text}'"))
    try:
        tmux("-f", "/dev/null", "new-session", "-d", "-x", "90", "-y", "20", command)
        wait_for("the program's screen", lambda: "line 19 of a file" in screen())
        before = screen()
        stack.agent.process.send_signal(signal.SIGSTOP)
        try:
            tmux("send-keys", "k")  # something to wait for; it moves nothing on the first line
            wait_for("the line", lambda: "reconnecting… ~. to quit" in screen()[0])
            assert screen()[1:19] == before[1:19]
        finally:
            stack.agent.process.send_signal(signal.SIGCONT)
        wait_for("the sentence", lambda: screen()[0].startswith("tether: resumed after "))
        wait_for("the whole screen", lambda: screen()[:19] == before[:19])
    finally:
        subprocess.run(["tmux", "-L", name, "kill-server"], env=stack.env, check=False)
