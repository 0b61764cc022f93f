"""Speed, side by side in one run: the stock ssh against sshd and against Tether.

    python scripts/bench.py [--rounds 5] [--megabytes 256] [--only TEXT] [--json OUT]
                            [--compare [BASELINE]] [--write docs/benchmarks.md]

Columns: sshd; sshd behind a trivial ProxyCommand (what the users of every access product pay); Tether
over its direct carrier, through the server's embedded relay, and through `tether relay`. Everything runs
on loopback of this machine with the same stock client. Rounds go through all columns in turn, so that
drift and load of the machine hit all alike; the tables show medians, and ratios first.

What it compares with is installed (apt) where it is missing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import pty
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import tty
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.support.e2e.stack import Program, Stack, free_port, wait_for

COLUMNS = ("sshd", "sshd_proxied", "direct", "embedded", "relay")
GCM = ("-o", "Ciphers=aes128-gcm@openssh.com")
SBIN = "/usr/sbin:/usr/local/sbin:" + os.environ.get("PATH", "")
PACKAGES = {
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "nc": "netcat-openbsd",
    "rsync": "rsync",
    "git": "git",
}
"""Programs that are compared with, and Debian's packages of them."""

BASELINE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.json"
WORSE = 1.25
"""A row got worse where its ratio to sshd did by this factor: less is noise."""

SMALL_FILES, GIT_FILES, CONNECTIONS, KEYSTROKES = 1000, 2500, 100, 200
DISCARD = {"stdout": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}


@dataclass(frozen=True)
class Target:
    """A host that the stock ssh reaches."""

    column: str
    config: Path
    host: str
    env: dict[str, str]

    def argv(self, program: str, *options: str) -> list[str]:
        return [program, "-F", str(self.config), *options, self.host]

    def run(self, *command: str, options: tuple[str, ...] = (), **more: Any) -> None:
        """One `ssh`; raises where it fails."""
        more = {**DISCARD, "check": True, "env": self.env, **more}
        subprocess.run([*self.argv("ssh", *options), *command], **more)

    def sftp(self, *batch: str) -> None:
        argv = ["sftp", "-q", "-F", str(self.config), "-b", "-", self.host]
        text = "\n".join(batch).encode()
        subprocess.run(argv, check=True, env=self.env, input=text, stdout=subprocess.DEVNULL)

    @property
    def rsh(self) -> str:
        return f"ssh -F {self.config}"


def install() -> None:
    """Install what is missing; exits where that cannot be done."""
    missing = [
        package for name, package in PACKAGES.items() if shutil.which(name, path=SBIN) is None
    ]
    if not missing:
        return
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        sys.exit(f"install these first: {' '.join(missing)}")
    more = {"env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, "stdout": sys.stderr}
    subprocess.run(["apt-get", "update", "-q"], check=True, **more)
    argv = ["apt-get", "install", "-q", "-y", "--no-install-recommends", *missing]
    subprocess.run(argv, check=True, **more)


# -- the columns ---------------------------------------------------------------------------


@contextlib.contextmanager
def sshd(root: Path) -> Iterator[list[Target]]:
    """Debian's sshd on a free loopback port, with keys of its own; as it is, and behind `nc`."""
    root.mkdir(parents=True)
    port = free_port()
    for name in ("host", "user"):
        keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(root / name)]
        subprocess.run(keygen, check=True)
    (root / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {root}/host\n"
        f"AuthorizedKeysFile {root}/user.pub\nStrictModes no\nUsePAM no\n"
        f"PidFile {root}/pid\nPermitRootLogin yes\nSubsystem sftp /usr/lib/openssh/sftp-server\n"
        "MaxStartups 100:30:200\n"
    )
    targets = []
    for column, more in (("sshd", ""), ("sshd_proxied", f" ProxyCommand nc 127.0.0.1 {port}\n")):
        config = root / f"{column}.config"
        config.write_text(
            f"Host bench\n HostName 127.0.0.1\n Port {port}\n IdentityFile {root}/user\n"
            f" IdentitiesOnly yes\n StrictHostKeyChecking no\n UserKnownHostsFile {root}/known\n"
            f" LogLevel ERROR\n{more}"
        )
        targets.append(Target(column, config, "bench", dict(os.environ)))
    Path("/run/sshd").mkdir(exist_ok=True)
    program = shutil.which("sshd", path=SBIN)
    assert program is not None
    process = subprocess.Popen(
        [program, "-D", "-f", str(root / "sshd_config")], stderr=subprocess.DEVNULL, **DISCARD
    )
    try:
        ready(targets[0])
        yield targets
    finally:
        process.terminate()
        process.wait(10)


class _Relayed(Stack):
    """No direct carriers: tunnels go through the embedded relay."""

    def start_agent(
        self, data_dir: str = "agent", wait: bool = True, more: tuple[str, ...] = ()
    ) -> Program:
        return super().start_agent(data_dir, wait, ("--direct-listen", "off", *more))


class _RelayOnly(_Relayed):
    """Tunnels go through `tether relay`, as there is no embedded one."""

    def _start(self, name: str, arguments: list[str]) -> Program:
        return super()._start(name, arguments + ["--no-embedded-relay"] * (name == "server"))


@contextlib.contextmanager
def tether(root: Path) -> Iterator[list[Target]]:
    """A server, an agent and a client's configuration for each way of the bytes."""
    kinds = {"direct": Stack, "embedded": _Relayed, "relay": _RelayOnly}
    with contextlib.ExitStack() as stacks:
        targets = []
        for column, kind in kinds.items():
            stack = kind(root / column, own_python=True)
            stacks.callback(stack.close)
            if column == "relay":
                stack.start_relay("bench")
            target = Target(column, stack.ssh_config, stack.host, stack.env)
            ready(target)
            targets.append(target)
        yield targets


def ready(target: Target) -> None:
    argv = [*target.argv("ssh"), "true"]
    wait_for(
        target.column,
        lambda: subprocess.run(argv, capture_output=True, env=target.env).returncode == 0 or None,
    )


# -- the rows ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One thing that is measured, once for each call."""

    what: str
    better: str
    once: Callable[[Target], float]


def seconds(function: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


class Work:
    """The files that are moved, and how each row is measured."""

    def __init__(self, root: Path, megabytes: int) -> None:
        self._root = root
        self._megabytes = megabytes
        self._idle: dict[str, float] = {}  # seconds of a connection by itself
        root.mkdir()
        self._blob = root / "blob"
        with self._blob.open("wb") as blob:
            for _ in range(megabytes):
                blob.write(os.urandom(1 << 20))
        self._many = root / "many"
        self._many.mkdir()
        for number in range(SMALL_FILES):
            (self._many / f"f{number}").write_bytes(os.urandom(1000 + number * 9 % 9000))
        self._repository = root / "repository"
        self._commit()

    def _commit(self) -> None:
        git = ["git", "-C", str(self._repository), "-c", "user.name=b", "-c", "user.email=b@b"]
        subprocess.run(["git", "init", "-q", str(self._repository)], check=True)
        for number in range(GIT_FILES):
            folder = self._repository / f"d{number % 50}"
            folder.mkdir(exist_ok=True)
            (folder / f"f{number}").write_bytes(os.urandom(500))
        subprocess.run([*git, "add", "-A"], check=True)
        subprocess.run([*git, "commit", "-q", "-m", "files"], check=True)

    def rows(self) -> list[Row]:
        rows = [
            Row("ssh host true, ms", "lower", self.connect),
            Row("ssh host true over a ControlMaster, ms", "lower", self.multiplexed),
        ]
        for ciphers, options in (("default algorithms", ()), ("aes128-gcm", GCM)):
            rows.append(Row(f"bulk up, {ciphers}, MB/s", "higher", self._up(options)))
            rows.append(Row(f"bulk down, {ciphers}, MB/s", "higher", self._down(options)))
        return [
            *rows,
            Row("sftp put, MB/s", "higher", self.put),
            Row("sftp get, MB/s", "higher", self.get),
            Row(f"sftp put -r, {SMALL_FILES} files, s", "lower", self.put_many),
            Row(f"sftp get -r, {SMALL_FILES} files, s", "lower", self.get_many),
            Row(f"rsync -a up, {SMALL_FILES} files, s", "lower", self.rsync_up),
            Row(f"rsync -a down, {SMALL_FILES} files, s", "lower", self.rsync_down),
            Row(f"git clone, {GIT_FILES} files, s", "lower", self.clone),
            Row("ssh -L up, MB/s", "higher", self.forward_up),
            Row("ssh -L down, MB/s", "higher", self.forward_down),
            Row(f"ssh -L, {CONNECTIONS} short connections, s", "lower", self.forward_many),
            Row("keystroke echo p50, ms", "lower", lambda target: echo_ms(target, 0.5)),
            Row("keystroke echo p99, ms", "lower", lambda target: echo_ms(target, 0.99)),
            Row("keystroke echo p50 beside a bulk transfer, ms", "lower", self.echo_beside_bulk),
        ]

    def connect(self, target: Target) -> float:
        spent = seconds(lambda: target.run("true"))
        self._idle[target.column] = min(spent, self._idle.get(target.column, spent))
        return spent * 1e3

    def multiplexed(self, target: Target) -> float:
        with self._master(target) as options:
            target.run("true", options=options)
            return seconds(lambda: target.run("true", options=options)) * 1e3

    @contextlib.contextmanager
    def _master(self, target: Target, *more: str) -> Iterator[tuple[str, ...]]:
        path = self._root / "master"
        options = ("-o", f"ControlPath={path}")
        argv = target.argv("ssh", "-M", "-N", "-o", f"ControlPath={path}", *more)
        master = subprocess.Popen(argv, env=target.env, stderr=subprocess.DEVNULL, **DISCARD)
        try:
            wait_for("a ControlMaster", lambda: path.exists() or None)
            yield options
        finally:
            master.terminate()
            master.wait(20)

    def _rate(self, target: Target, spent: float) -> float:
        """MB/s, without the time that a connection takes by itself."""
        if target.column not in self._idle:
            self.connect(target)
        return self._megabytes * 1.048576 / max(spent - self._idle[target.column], 1e-3)

    def _up(self, options: tuple[str, ...]) -> Callable[[Target], float]:
        def once(target: Target) -> float:
            with self._blob.open("rb") as source:
                spent = seconds(
                    lambda: target.run("cat > /dev/null", options=options, stdin=source)
                )
            return self._rate(target, spent)

        return once

    def _down(self, options: tuple[str, ...]) -> Callable[[Target], float]:
        command = f"cat {self._blob}"
        return lambda target: self._rate(
            target, seconds(lambda: target.run(command, options=options))
        )

    def put(self, target: Target) -> float:
        batch = f"put {self._blob} {self._root}/put"
        return self._rate(target, seconds(lambda: target.sftp(batch)))

    def get(self, target: Target) -> float:
        batch = f"get {self._blob} {self._root}/got"
        return self._rate(target, seconds(lambda: target.sftp(batch)))

    def put_many(self, target: Target) -> float:
        with self._empty() as place:
            return seconds(lambda: target.sftp(f"put -r {self._many} {place}"))

    def get_many(self, target: Target) -> float:
        with self._empty() as place:
            return seconds(lambda: target.sftp(f"get -r {self._many} {place}"))

    def rsync_up(self, target: Target) -> float:
        with self._empty() as place:
            return self._rsync(target, f"{self._many}/", f"{target.host}:{place}/")

    def rsync_down(self, target: Target) -> float:
        with self._empty() as place:
            return self._rsync(target, f"{target.host}:{self._many}/", f"{place}/")

    def _rsync(self, target: Target, source: str, destination: str) -> float:
        argv = ["rsync", "-a", "-e", target.rsh, source, destination]
        return seconds(lambda: subprocess.run(argv, check=True, env=target.env))

    def clone(self, target: Target) -> float:
        env = {**target.env, "GIT_SSH_COMMAND": target.rsh}
        with self._empty() as place:
            argv = ["git", "clone", "-q", f"{target.host}:{self._repository}", str(place)]
            return seconds(lambda: subprocess.run(argv, check=True, env=env))

    @contextlib.contextmanager
    def _empty(self) -> Iterator[Path]:
        place = self._root / "copies"
        place.mkdir()
        try:
            yield place
        finally:
            shutil.rmtree(place)

    def forward_up(self, target: Target) -> float:
        with self._forwarded(target) as port, self._blob.open("rb") as blob:
            return self._megabytes * 1.048576 / seconds(lambda: exchange(port, blob))

    def forward_down(self, target: Target) -> float:
        with self._forwarded(target, sends=self._blob) as port:
            return self._megabytes * 1.048576 / seconds(lambda: exchange(port))

    def forward_many(self, target: Target) -> float:
        with self._forwarded(target) as port:
            return seconds(lambda: [exchange(port) for _ in range(CONNECTIONS)])

    @contextlib.contextmanager
    def _forwarded(self, target: Target, sends: Path | None = None) -> Iterator[int]:
        """A port that leads through ssh to one that reads all, or sends a file."""
        local, remote = free_port(), free_port()
        server = subprocess.Popen([sys.executable, "-c", _SERVER, str(remote), str(sends or "")])
        try:
            wait_for("the port", lambda: _connects(remote))
            with self._master(target, "-L", f"{local}:127.0.0.1:{remote}"):
                wait_for("the forward", lambda: _connects(local))
                yield local
        finally:
            server.kill()
            server.wait()

    def echo_beside_bulk(self, target: Target) -> float:
        argv = [*target.argv("ssh"), "cat /dev/zero"]
        bulk = subprocess.Popen(argv, env=target.env, stderr=subprocess.DEVNULL, **DISCARD)
        try:
            return echo_ms(target, 0.5)
        finally:
            bulk.terminate()
            bulk.wait(20)


_SERVER = """
import socket, sys
server = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=200)
while True:
    peer, _ = server.accept()
    with peer:
        if sys.argv[2]:
            with open(sys.argv[2], "rb") as file:
                try:
                    peer.sendfile(file)
                except OSError:
                    pass
        else:
            while peer.recv(1 << 20):
                pass
"""


def _connects(port: int) -> bool | None:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return None
    return True


def exchange(port: int, source: Any = None) -> None:
    """Connect, send what there is, and read to the end."""
    with socket.create_connection(("127.0.0.1", port)) as peer:
        if source is not None:
            peer.sendfile(source)
        peer.shutdown(socket.SHUT_WR)
        while peer.recv(1 << 20):
            pass


def echo_ms(target: Target, quantile: float) -> float:
    """The round trip of one typed character through a PTY."""
    master, slave = pty.openpty()
    tty.setraw(master)
    argv = [*target.argv("ssh", "-tt"), "stty raw -echo; echo READY; cat"]
    shell = subprocess.Popen(
        argv, stdin=slave, stdout=slave, stderr=subprocess.DEVNULL, env=target.env
    )
    os.close(slave)
    try:
        seen = b""
        while not (b"READY" in seen and seen.endswith((b"\n", b"\r"))):
            seen += os.read(master, 1000)
        times = []
        for _ in range(KEYSTROKES):
            begin = time.perf_counter()
            os.write(master, b"x")
            os.read(master, 100)
            times.append((time.perf_counter() - begin) * 1e3)
        return sorted(times)[int(quantile * (len(times) - 1))]
    finally:
        shell.kill()
        shell.wait()
        os.close(master)


# -- the result ----------------------------------------------------------------------------


def measure(row: Row, targets: list[Target], rounds: int) -> dict[str, Any]:
    got: dict[str, list[float]] = {target.column: [] for target in targets}
    for turn in range(rounds):
        for target in targets:
            got[target.column].append(row.once(target))
            print(f"{row.what}: round {turn + 1}/{rounds} {target.column}", file=sys.stderr)
    return {
        "what": row.what,
        "better": row.better,
        "values": {column: statistics.median(values) for column, values in got.items()},
        "spread": {column: [min(values), max(values)] for column, values in got.items()},
    }


def ratio(row: dict[str, Any], column: str, to: str) -> float:
    values: dict[str, float] = row["values"]
    return values[column] / values[to]


def tables(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| ratios | direct : sshd behind a ProxyCommand | direct : sshd | embedded relay : sshd "
        "| `tether relay` : sshd | better |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        pairs = (("direct", "sshd_proxied"), *((c, "sshd") for c in COLUMNS[2:]))
        cells = " | ".join(f"{ratio(row, *pair):.2f}" for pair in pairs)
        lines.append(f"| {row['what']} | {cells} | {row['better']} |")
    lines += ["", f"| medians (lowest to highest) | {' | '.join(COLUMNS)} |", "|---|" + "---|" * 5]
    for row in rows:
        cells = " | ".join(
            f"{row['values'][c]:.4g} ({row['spread'][c][0]:.4g} to {row['spread'][c][1]:.4g})"
            for c in COLUMNS
        )
        lines.append(f"| {row['what']} | {cells} |")
    return "\n".join(lines)


def compare(rows: list[dict[str, Any]], baseline: Path) -> list[str]:
    """What got worse, by its ratio to sshd in the same run."""
    before = {row["what"]: row for row in json.loads(baseline.read_text())["rows"]}
    worse = []
    for row in rows:
        if (old := before.get(row["what"])) is None:
            continue
        for column in COLUMNS[2:]:
            was, now = ratio(old, column, "sshd"), ratio(row, column, "sshd")
            change = now / was if row["better"] == "lower" else was / now
            if change > WORSE:
                worse.append(f"{row['what']}, {column}: {was:.2f} of sshd before, {now:.2f} now")
    return worse


def machine(load: tuple[float, float, float]) -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if "model name" in line), "?")
    return (
        f"{os.cpu_count()} CPUs ({cpu}), {platform.platform()}, Python {sys.version.split()[0]};"
        f" load average {load[0]:.1f} before the run"
    )


def write(page: Path, text: str) -> None:
    """Replace the first part of the page; other scripts wrote the sections after it."""
    old = page.read_text() if page.exists() else ""
    others = old[old.find("\n## ") :] if "\n## " in old else ""
    page.write_text(text + others)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--only", default="", help="only rows with this in their name")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--compare", type=Path, nargs="?", const=BASELINE)
    parser.add_argument("--write", type=Path, help="write a Markdown page here")
    options = parser.parse_args()
    install()
    load = os.getloadavg()
    with tempfile.TemporaryDirectory(prefix="tether-bench-") as raw:
        root = Path(raw)
        with sshd(root / "sshd") as stock, tether(root / "tether") as ours:
            chosen = [
                r for r in Work(root / "work", options.megabytes).rows() if options.only in r.what
            ]
            rows = [measure(row, [*stock, *ours], options.rounds) for row in chosen]
    described = machine(load)
    print(f"{described}; {options.rounds} rounds\n\n{tables(rows)}")
    if options.json:
        options.json.write_text(json.dumps({"machine": described, "rows": rows}, indent=1) + "\n")
    if options.write:
        text = (
            "# Benchmarks\n\nWritten by `make bench`; never edited by hand. Medians of "
            f"{options.rounds} interleaved rounds with the stock `ssh`, {options.megabytes} MiB in bulk,"
            " everything on loopback of one machine and sharing its cores.\n\n"
            f"Machine: {described}.\n\n{tables(rows)}\n"
        )
        write(options.write, text)
    worse = compare(rows, options.compare) if options.compare else []
    for line in worse:
        print(f"worse: {line}")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
