"""The main job with the stock programs of Debian: ssh, scp, sftp, rsync, git, over a real stack."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.deadline import DEADLINE_S
from tests.support.e2e.stack import Stack, truth, wait_for

pytestmark = pytest.mark.real
GRACEFUL = ("graceful", "client", True)
BIG = 60_000_000  # far more than every window and queue on the way together


def needs(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("big") / "big.bin"
    with path.open("wb") as file:
        for _ in range(BIG // 1_000_000):
            file.write(os.urandom(1_000_000))
    return path


def test_tether_ssh_runs_a_command(stack: Stack) -> None:
    with stack.one_new_row() as row:
        done = stack.tether("ssh", "dev", "--", "uname", "-a")
    assert done.stdout == subprocess.check_output(["uname", "-a"], text=True)
    assert (truth(row), row["exit_code"], row["type"]) == (GRACEFUL, 0, "ssh")
    assert (row["user"], row["workspace"]) == ("admin", "dev")
    assert row["connection_method"] in ("direct", "derp")  # whichever was first


def test_stock_ssh_runs_a_command(stack: Stack) -> None:
    with stack.one_new_row() as row:
        done = stack.ssh("echo out; echo err >&2")
    assert (done.returncode, done.stdout, done.stderr) == (0, "out\n", "err\n")
    assert (truth(row), row["exit_code"]) == (GRACEFUL, 0)


@pytest.mark.parametrize("code", [0, 1, 3, 127, 254])
def test_the_exit_code_reaches_the_client_and_the_record(stack: Stack, code: int) -> None:
    with stack.one_new_row() as row:
        done = stack.ssh(f"exit {code}")
    assert (done.returncode, done.stderr) == (code, "")
    assert (truth(row), row["exit_code"]) == (GRACEFUL, code)


@pytest.mark.parametrize("name", ["TERM", "KILL"])
def test_a_command_killed_by_a_signal_ended_gracefully(stack: Stack, name: str) -> None:
    with stack.one_new_row() as row:
        done = stack.tether("ssh", "dev", "--", f"kill -{name} $$", check=False)
    number = {"TERM": 15, "KILL": 9}[name]
    assert (done.returncode, done.stderr) == (
        128 + number,
        f"tether: the remote command was ended by signal {name}\n",
    )
    assert (truth(row), row["exit_signal"], row["exit_code"]) == (GRACEFUL, name, None)


def test_stdin_reaches_the_command_and_its_end_too(stack: Stack) -> None:
    done = stack.ssh("cat | sha256sum", input="x" * 3_000_000, timeout=DEADLINE_S)
    assert done.stdout.split()[0] == hashlib.sha256(b"x" * 3_000_000).hexdigest()


def test_output_is_whole_before_the_exit_status(stack: Stack) -> None:
    done = stack.ssh("head -c 50000000 /dev/zero | tr '\\0' a; exit 7")
    assert (done.returncode, len(done.stdout)) == (7, 50_000_000)


def test_scp_copies_both_ways(stack: Stack, big: Path, tmp_path: Path) -> None:
    needs("scp")
    there, back = stack.home / "scp.bin", tmp_path / "back.bin"
    with stack.one_new_row() as up:
        stack.run("scp", "-F", str(stack.ssh_config), str(big), f"{stack.host}:{there}", check=True)
    with stack.one_new_row() as down:
        stack.run(
            "scp", "-F", str(stack.ssh_config), f"{stack.host}:{there}", str(back), check=True
        )
    assert digest(back) == digest(big)
    assert [(truth(r), r["type"]) for r in (up, down)] == [(GRACEFUL, "sftp")] * 2
    assert up["rx_bytes"] > BIG
    assert down["tx_bytes"] > BIG


def test_sftp_batch(stack: Stack, tmp_path: Path) -> None:
    needs("sftp")
    source = tmp_path / "a.txt"
    source.write_text("hello sftp\n")
    batch = f"put {source} {stack.home}/b.txt\nls -l {stack.home}\nget {stack.home}/b.txt {tmp_path}/c\n"
    with stack.one_new_row() as row:
        stack.run(
            "sftp", "-F", str(stack.ssh_config), "-b", "-", stack.host, input=batch, check=True
        )
    assert (tmp_path / "c").read_text() == "hello sftp\n"
    assert (truth(row), row["type"]) == (GRACEFUL, "sftp")


def test_rsync_of_a_large_file_arrives_whole(stack: Stack, big: Path) -> None:
    needs("rsync")
    shell = f"ssh -F {stack.ssh_config}"
    there = stack.home / "rsync.bin"
    with stack.one_new_row() as row:
        stack.run(
            "rsync", "-e", shell, str(big), f"{stack.host}:{there}", check=True, timeout=DEADLINE_S
        )
    assert digest(there) == digest(big)
    assert truth(row) == GRACEFUL


def test_git_clone_over_it(stack: Stack, tmp_path: Path) -> None:
    needs("git")
    origin = stack.home / "origin"
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    stack.run(*git, "init", "-q", str(origin), check=True)
    (origin / "file").write_text("content\n")
    stack.run(*git, "-C", str(origin), "add", ".", check=True)
    stack.run(*git, "-C", str(origin), "commit", "-qm", "first", check=True)
    with stack.one_new_row() as row:
        stack.run(
            "git",
            "-c",
            f"core.sshCommand=ssh -F {stack.ssh_config}",
            "clone",
            "-q",
            f"{stack.host}:{origin}",
            str(tmp_path / "clone"),
            check=True,
        )
    assert (tmp_path / "clone" / "file").read_text() == "content\n"
    assert truth(row) == GRACEFUL


def test_several_sessions_share_one_ssh_connection(stack: Stack) -> None:
    control = stack.root / "cm"
    options = ["-o", f"ControlPath={control}"]
    with stack.one_new_row() as row:
        master = stack.spawn_ssh(*options, "-M", "-N", stack.host)
        try:
            from tests.support.e2e.stack import wait_for

            wait_for("the control socket", lambda: control.exists() or None)
            done = [stack.run(*stack.ssh_argv(*options, stack.host, f"exit {n}")) for n in (0, 5)]
            stack.run(*stack.ssh_argv(*options, "-O", "exit", stack.host))
            master.wait(DEADLINE_S)
        finally:
            master.kill()
            master.wait()
    assert [d.returncode for d in done] == [0, 5]
    sessions = stack.explain(row["id"])["sessions"]
    assert sorted(s["exit_code"] for s in sessions) == [0, 5]


def test_a_port_is_forwarded(stack: Stack) -> None:
    import http.server
    import threading
    import urllib.request

    from tests.support.e2e.stack import free_port, wait_for

    class Hello(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello through the tunnel")

        def log_message(self, *_: object) -> None:
            pass

    web = http.server.HTTPServer(("127.0.0.1", 0), Hello)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    local = free_port()
    forward = stack.spawn_ssh("-N", "-L", f"{local}:127.0.0.1:{web.server_port}", stack.host)
    try:

        def fetch() -> bytes | None:
            try:
                with urllib.request.urlopen(
                    f"http://127.0.0.1:{local}/", timeout=DEADLINE_S
                ) as page:
                    return bytes(page.read())
            except OSError:
                return None

        assert wait_for("the forwarded port", fetch) == b"hello through the tunnel"
    finally:
        forward.terminate()
        forward.wait(DEADLINE_S)
        web.shutdown()
        web.server_close()


def test_no_row_is_left_ongoing_or_unknown(stack: Stack) -> None:
    def all_closed() -> list[dict[str, Any]] | None:
        """Once only the agent's own control link is open."""
        rows = stack.connections(limit=1000)
        ongoing = [row["connect_type"] for row in rows if row["disconnected_at"] is None]
        return rows if ongoing == ["server_to_agent"] else None

    rows = wait_for("every row to be closed", all_closed)
    assert [r["id"] for r in rows if r["disconnect_reason"] == "unknown"] == []


# -- programs that know no ed25519 ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [("ecdsa-sha2-nistp256", "ecdsa"), ("rsa-sha2-512", "rsa"), ("rsa-sha2-256", "rsa")],
)
def test_an_ssh_without_ed25519_is_at_home_at_once(stack: Stack, algorithm: str, key: str) -> None:
    """As OpenSSH in FIPS mode: the host key is pinned by the one that was, and a key is at hand."""
    limited = [f"-oHostKeyAlgorithms={algorithm}", f"-oPubkeyAcceptedAlgorithms={algorithm}"]
    done = stack.run(*stack.ssh_argv(*limited, stack.host, "echo in"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "in\n", "")
    known = (stack.root / "client" / "ssh" / "known_hosts").read_text()
    assert f"dev.tether {'ssh-rsa' if key == 'rsa' else algorithm} " in known


def test_tether_ssh_without_ed25519_is_at_home_at_once(stack: Stack) -> None:
    limited = ["-o", "HostKeyAlgorithms=ecdsa-sha2-nistp256"]
    limited += ["-o", "PubkeyAcceptedAlgorithms=ecdsa-sha2-nistp256"]
    done = stack.tether("ssh", *limited, "dev", "echo in", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "in\n", "")


@pytest.mark.parametrize("forced", [[], ["-f"]], ids=["tried first", "forced"])
def test_whoever_copies_a_key_is_told_that_it_opens_nothing(
    stack: Stack, tmp_path: Path, forced: list[str]
) -> None:
    needs("ssh-copy-id")
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    (stack.home / ".ssh").mkdir(exist_ok=True)  # where it keeps its own files
    copy = ["ssh-copy-id", *forced, "-i", str(key), "-F", str(stack.ssh_config), stack.host]
    done = stack.run(*copy)
    assert "on the other machine are all that it needs" in done.stderr
    assert (done.returncode == 0) == bool(forced)
    assert "already exist on the remote system" not in done.stderr


# -- what ssh itself says ----------------------------------------------------------------------------


def test_ssh_tells_which_port_it_was_given(stack: Stack) -> None:
    done = stack.ssh("true", check=False)
    assert (done.returncode, done.stderr) == (0, "")  # and nothing else of its own
    done = stack.run(*stack.ssh_argv("-R", "0:127.0.0.1:1", stack.host, "true"))
    assert done.returncode == 0
    assert re.fullmatch(r"Allocated port \d+ for remote forward to 127.0.0.1:1\s*", done.stderr)


def test_ssh_tells_what_was_not_agreed_upon(stack: Stack) -> None:
    done = stack.run(*stack.ssh_argv("-oCiphers=aes128-ctr", stack.host, "true"))
    assert done.returncode == 255
    assert "no matching cipher found. Their offer: " in done.stderr


def test_a_key_of_the_users_own_makes_no_noise(stack: Stack, tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    done = stack.run(*stack.ssh_argv("-i", str(key), stack.host, "echo in"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "in\n", "")
