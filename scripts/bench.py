"""Speed, as ratios side by side in one run: the stock ssh against sshd and against Tether.

    python scripts/bench.py [--rounds 5] [--megabytes 256] [--json OUT] [--write docs/benchmarks.md]

Both servers run on this machine, on loopback, with the same stock client and cipher. Rounds alternate
between the two, so that drift of the machine hits both; the table shows medians. What cannot be
measured here is listed as skipped, never left out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.support.e2e.stack import Stack, free_port, wait_for

CIPHER = "aes128-gcm@openssh.com"
SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:" + os.environ.get("PATH", ""))


class Sshd:
    """Debian's sshd on a free loopback port, with keys of its own."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True)
        self.port = free_port()
        for name in ("host", "user"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(root / name)], check=True
            )
        (root / "authorized").write_text((root / "user.pub").read_text())
        (root / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {root}/host\n"
            f"AuthorizedKeysFile {root}/authorized\nStrictModes no\nUsePAM no\n"
            f"PidFile {root}/pid\nPermitRootLogin yes\nSubsystem sftp internal-sftp\n"
            "MaxStartups 100:30:200\n"
        )
        (root / "ssh_config").write_text(
            f"Host bench\n HostName 127.0.0.1\n Port {self.port}\n IdentityFile {root}/user\n"
            f" IdentitiesOnly yes\n StrictHostKeyChecking no\n UserKnownHostsFile {root}/known\n"
            f" LogLevel ERROR\n Ciphers {CIPHER}\n"
        )
        Path("/run/sshd").mkdir(exist_ok=True)
        assert SSHD is not None
        self.process = subprocess.Popen(
            [SSHD, "-D", "-f", str(root / "sshd_config")],
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
        )
        self.ssh = ["ssh", "-F", str(root / "ssh_config"), "bench"]
        self.sftp = ["sftp", "-q", "-F", str(root / "ssh_config"), "-b", "-", "bench"]
        wait_for(
            "sshd",
            lambda: (
                subprocess.run([*self.ssh, "true"], capture_output=True).returncode == 0 or None
            ),
        )

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(10)


def seconds(argv: list[str], **more: Any) -> float:
    """How long one command takes."""
    begin = time.perf_counter()
    subprocess.run(argv, check=True, stdout=more.pop("stdout", subprocess.DEVNULL), **more)
    return time.perf_counter() - begin


def connect_ms(ssh: list[str], **more: Any) -> float:
    return seconds([*ssh, "true"], stdin=subprocess.DEVNULL, **more) * 1e3


def rate(megabytes: int, spent: float, idle: float) -> float:
    """MB/s without the time that a connection takes by itself."""
    return megabytes * 1.048576 / max(spent - idle, 1e-3)


def echo_ms(ssh: list[str], **more: Any) -> float:
    """Median round trip of one typed character through a PTY."""
    import pty
    import tty

    master, slave = pty.openpty()
    tty.setraw(master)
    shell = subprocess.Popen(
        [*ssh[:1], "-tt", *ssh[1:], "stty raw -echo; echo READY; cat"],
        stdin=slave,
        stdout=slave,
        stderr=subprocess.DEVNULL,
        **more,
    )
    os.close(slave)
    try:
        seen = b""
        while b"READY" not in seen:
            seen += os.read(master, 1000)
        while not seen.endswith((b"\n", b"\r")):
            seen += os.read(master, 1000)
        times = []
        for _ in range(200):
            begin = time.perf_counter()
            os.write(master, b"x")
            os.read(master, 100)
            times.append((time.perf_counter() - begin) * 1e3)
        return statistics.median(times)
    finally:
        shell.kill()
        shell.wait()
        os.close(master)


def progress(text: str) -> None:
    """What is being measured, on a line that is written over; only for people."""
    if sys.stderr.isatty():
        print(f"\r{text:<60}\r", end="", file=sys.stderr, flush=True)


def measure(name: str, both: dict[str, Callable[[], float]], rounds: int) -> dict[str, Any]:
    """Medians of `rounds` alternating rounds."""
    got: dict[str, list[float]] = {who: [] for who in both}
    for turn in range(rounds):
        for who, once in both.items():
            got[who].append(once())
            progress(f"{name}: round {turn + 1}/{rounds} {who}")
    progress("")
    middle = {who: statistics.median(times) for who, times in got.items()}
    return {"what": name, **middle, "ratio": middle["tether"] / middle["openssh"], "runs": got}


def run(rounds: int, megabytes: int) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="tether-bench-") as raw:
        root = Path(raw)
        sshd, stack = Sshd(root / "sshd"), None
        try:
            stack = Stack(root / "stack", own_python=True)
            config = stack.ssh_config
            config.write_text(f"Ciphers {CIPHER}\n" + config.read_text())
            ours = stack.ssh_argv(stack.host)
            sftp = ["sftp", "-q", "-F", str(config), "-b", "-", stack.host]
            return [*_rows(sshd, ours, sftp, stack.env, root, rounds, megabytes)]
        finally:
            if stack is not None:
                stack.close()
            sshd.close()


def _rows(
    sshd: Sshd,
    ours: list[str],
    sftp: list[str],
    env: dict[str, str],
    root: Path,
    rounds: int,
    megabytes: int,
) -> list[dict[str, Any]]:
    def pair(once: Callable[..., float]) -> dict[str, Callable[[], float]]:
        return {
            "openssh": lambda: once(sshd.ssh, sshd.sftp, {}),
            "tether": lambda: once(ours, sftp, {"env": env}),
        }

    rows = [measure("ssh host true, ms", pair(lambda s, _f, m: connect_ms(s, **m)), rounds)]
    idle = {"openssh": rows[0]["openssh"] / 1e3, "tether": rows[0]["tether"] / 1e3}
    blob = root / "blob"
    subprocess.run(["head", "-c", f"{megabytes}M", "/dev/zero"], stdout=blob.open("wb"), check=True)

    def who(ssh: list[str]) -> str:
        return "tether" if ssh is ours else "openssh"

    def down(ssh: list[str], _: list[str], more: dict[str, Any]) -> float:
        return rate(
            megabytes,
            seconds([*ssh, f"head -c {megabytes}M /dev/zero"], stdin=subprocess.DEVNULL, **more),
            idle[who(ssh)],
        )

    def up(ssh: list[str], _: list[str], more: dict[str, Any]) -> float:
        with blob.open("rb") as source:
            return rate(
                megabytes, seconds([*ssh, "cat > /dev/null"], stdin=source, **more), idle[who(ssh)]
            )

    def put(ssh: list[str], sftp: list[str], more: dict[str, Any]) -> float:
        batch = f"put {blob} {root}/put\n".encode()
        return rate(megabytes, seconds(sftp, input=batch, **more), idle[who(ssh)])

    def get(ssh: list[str], sftp: list[str], more: dict[str, Any]) -> float:
        batch = f"get {blob} {root}/got\n".encode()
        return rate(megabytes, seconds(sftp, input=batch, **more), idle[who(ssh)])

    for name, once in (
        ("bulk up, MB/s", up),
        ("bulk down, MB/s", down),
        ("sftp put, MB/s", put),
        ("sftp get, MB/s", get),
    ):
        rows.append(measure(name, pair(once), rounds))
    rows.append(measure("keystroke echo p50, ms", pair(lambda s, _f, m: echo_ms(s, **m)), rounds))
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| what | OpenSSH sshd | Tether, relayed | ratio |", "|---|---|---|---|"]
    lines += [
        f"| {r['what']} | {r['openssh']:.2f} | {r['tether']:.2f} | {r['ratio']:.2f} |" for r in rows
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write", type=Path, help="write a Markdown page here")
    options = parser.parse_args()
    if SSHD is None:
        print("SKIPPED: Debian's sshd is not installed: apt-get install openssh-server")
        return 0
    rows = run(options.rounds, options.megabytes)
    cpu = next(
        (
            ln.split(":")[1].strip()
            for ln in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in ln
        ),
        "?",
    )
    machine = (
        f"{os.cpu_count()} CPUs ({cpu}), {platform.platform()}, Python {sys.version.split()[0]}"
    )
    print(f"{machine}; cipher {CIPHER}; {options.rounds} rounds\n\n{table(rows)}")
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1))
    if options.write:
        page = options.write.read_text() if options.write.exists() else ""
        others = page[page.find("\n## ") :] if "\n## " in page else ""  # other scripts' sections
        options.write.write_text(
            "# Benchmarks\n\nWritten by `make bench`; never edited by hand. Medians of "
            f"{options.rounds} alternating rounds, stock `ssh`, cipher `{CIPHER}`, everything on "
            "loopback of one machine and sharing its cores. Tether's bytes go through its relay "
            "(two WebSocket legs and a ProxyCommand); sshd's go straight over TCP.\n\n"
            f"Machine: {machine}.\n\n{table(rows)}\n{others}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
