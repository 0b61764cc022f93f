"""What broken and hostile clients send, and what a machine lacks: the client is told what is wrong,
the end is attributed, and a session next to it on the same agent notices nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from asyncssh.constants import (
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EXTENDED_DATA,
    MSG_CHANNEL_REQUEST,
    MSG_GLOBAL_REQUEST,
)
from asyncssh.packet import Boolean, String, UInt32

from tests.support.deadline import DEADLINE_S
from tests.support.e2e.raw_client import RawChannel, RawClient, raw_client
from tests.support.e2e.stack import TETHER, Program, Stack, children_of, truth, wait_for

pytestmark = pytest.mark.real
GRACEFUL = ("graceful", "client", True)
VIOLATED = ("protocol_error", "client", False)
HUGE = 0xFFFFFFFF
NOTICEABLE_S = 2.0
"""How long the agent may compute for others before it echoes a neighbour's line: its processor time,
which other work of the machine does not add to."""


class Neighbour:
    """Another session on the same agent, which says something all the time and listens to the echo."""

    def __init__(self, stack: Stack) -> None:
        self._agent = stack.agent.pid
        self._ssh = stack.spawn_ssh(stack.host, "cat")
        self.echoes, self.slowest = 0, 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._talk, daemon=True)
        self._thread.start()

    def _talk(self) -> None:
        assert self._ssh.stdin is not None and self._ssh.stdout is not None
        number = 0
        while not self._over.is_set():
            number += 1
            began = self._agents_cpu_s()
            self._ssh.stdin.write(line := f"{number}\n".encode())
            self._ssh.stdin.flush()
            if self._ssh.stdout.readline() != line:
                return  # it was cut off: `unbothered` shows it
            if number > 1:  # the first one waits for the connection
                self.slowest = max(self.slowest, self._agents_cpu_s() - began)
            self.echoes = number
            self._over.wait(0.05)

    def _agents_cpu_s(self) -> float:
        fields = Path(f"/proc/{self._agent}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def is_there(self) -> None:
        """Its first echo has come."""

        def echoed() -> bool:
            if self._ssh.poll() is not None:
                assert self._ssh.stderr is not None
                raise AssertionError(f"the neighbour's ssh left: {self._ssh.stderr.read()!r}")
            return self.echoes > 0

        wait_for("the neighbour", echoed)

    def is_well(self) -> None:
        """It was never kept waiting for others, and hears its next echo."""
        heard = self.echoes
        wait_for("the neighbour's next echo", lambda: self.echoes > heard + 1 or None)
        assert self._ssh.poll() is None
        assert self.slowest < NOTICEABLE_S
        self.slowest = 0.0

    def close(self) -> None:
        self._over.set()
        self._thread.join(10)
        self._ssh.terminate()
        self._ssh.wait(DEADLINE_S)


@pytest.fixture(scope="module")
def next_door(stack: Stack) -> Iterator[Neighbour]:
    neighbour = Neighbour(stack)
    try:
        neighbour.is_there()
        yield neighbour
    finally:
        neighbour.close()


@pytest.fixture
def neighbour(next_door: Neighbour) -> Iterator[Neighbour]:
    """Whatever the test does, the neighbour must not notice."""
    yield next_door
    next_door.is_well()


def within(stack: Stack, use: Callable[[RawClient], Awaitable[None]], host: str = "") -> str:
    """Run `use` with a raw client; what `tether ssh --stdio` said about the end."""

    async def run() -> str:
        async with raw_client(stack, host) as client:
            await use(client)
        return client.said

    return asyncio.run(run())


# -- malformed requests ---------------------------------------------------------------------------


async def truncated_pty(client: RawClient) -> None:
    (await client.session()).request(b"pty-req", String("xterm"), UInt32(80))


async def a_length_beyond_the_packet(client: RawClient) -> None:
    (await client.session()).request(b"env", UInt32(HUGE) + b"A")


async def no_command(client: RawClient) -> None:
    (await client.session()).request(b"exec")


async def a_request_name_that_is_no_text(client: RawClient) -> None:
    (await client.session()).request(b"\xff\xfe")


async def data_for_a_channel_that_nobody_opened(client: RawClient) -> None:
    client.send(MSG_CHANNEL_DATA, UInt32(4711), String(b"hello?"))


async def more_data_than_the_window(client: RawClient) -> None:
    channel = await client.session()
    assert await channel.asked(b"exec", String(b"sleep 20"))
    for _ in range(200):
        channel.data(b"x" * 32_768)


async def extended_data_of_no_type(client: RawClient) -> None:
    channel = await client.session()
    assert await channel.asked(b"exec", String(b"cat"))
    channel.send(MSG_CHANNEL_EXTENDED_DATA, UInt32(99), String(b"x"))


async def a_forward_without_a_port(client: RawClient) -> None:
    client.send(MSG_GLOBAL_REQUEST, String(b"tcpip-forward"), Boolean(True), String(b"localhost"))


async def a_channel_with_packets_of_no_size(client: RawClient) -> None:
    RawChannel(client.ssh).open(packet=0)


@pytest.mark.parametrize(
    "said",
    [
        truncated_pty,
        a_length_beyond_the_packet,
        no_command,
        a_request_name_that_is_no_text,
        data_for_a_channel_that_nobody_opened,
        more_data_than_the_window,
        extended_data_of_no_type,
        a_forward_without_a_port,
        a_channel_with_packets_of_no_size,
    ],
)
def test_who_breaks_the_protocol_is_told_so_and_recorded(
    stack: Stack, neighbour: Neighbour, said: Callable[[RawClient], Awaitable[None]]
) -> None:
    async def use(client: RawClient) -> None:
        await said(client)
        await client.is_lost()
        in_ssh.append(client.disconnected_with)

    in_ssh: list[str] = []
    with stack.one_new_row() as row:
        told = within(stack, use)
    assert (truth(row), row["disconnect_cause"]) == (VIOLATED, "client.protocol_error")
    # In SSH's own words; and in ours, where the client did not hang up on hearing those.
    assert in_ssh != [""]
    assert told == "" or (told.startswith("tether: ") and "protocol" in told)


def test_what_is_only_unknown_is_declined_and_the_session_goes_on(
    stack: Stack, neighbour: Neighbour, tmp_path: Path
) -> None:
    async def use(client: RawClient) -> None:
        stranger = RawChannel(client.ssh)
        stranger.open(b"teleport@example.com")
        with pytest.raises(asyncssh.ChannelOpenError):
            await stranger.is_open()
        client.send(MSG_GLOBAL_REQUEST, String(b"what-is-this@example.com"), Boolean(False))
        channel = await client.session()
        granted = [
            await channel.asked(b"dance@example.com", String(b"tango")),
            await channel.asked(b"subsystem", String(b"teleport")),
            await channel.asked(b"env", String(b"LD_PRELOAD"), String(b"/tmp/evil.so")),
            await channel.asked(b"env", String(b"A=B"), String(b"c")),
            await channel.asked(b"env", String(b"NUL"), String(b"a\0b")),
        ]
        assert granted == [False] * 5
        channel = await client.session()
        assert await channel.asked(b"exec", String(b"cat; echo done"))
        channel.request(b"window-change", *[UInt32(HUGE)] * 4, reply=False)
        channel.request(b"signal", String(b"NOSUCHSIGNAL"), reply=False)
        channel.data(b"alive\n")
        channel.send(MSG_CHANNEL_REQUEST, String(b"eow@openssh.com"), Boolean(False))
        channel.request(b"signal", String(b"TERM"), reply=False)
        await channel.is_closed()
        assert channel.output.startswith(b"alive\n") or channel.output == b""
        assert (await client.run(b"echo still here")).output == b"still here\n"

    with stack.one_new_row() as row:
        within(stack, use)
    assert row["disconnect_initiator"] == "client"


# -- absurd sizes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("window", "packet"), [(HUGE, HUGE), (HUGE, 1), (1, HUGE), (0, 1 << 15), (1 << 21, 7)]
)
def test_absurd_windows_and_packets_carry_the_output_all_the_same(
    stack: Stack, neighbour: Neighbour, tmp_path: Path, window: int, packet: int
) -> None:
    async def use(client: RawClient) -> None:
        channel = await client.session(window, packet)
        assert await channel.asked(b"exec", String(b"head -c 20000 /dev/zero; exit 3"))
        for _ in range(3):
            channel.widen(HUGE)  # far beyond what the field can mean
        await channel.is_closed()
        assert (len(channel.output), channel.exit_code) == (20_000, 3)

    within(stack, use)


def test_a_client_that_never_reads_holds_up_nobody_else(
    stack: Stack, neighbour: Neighbour, tmp_path: Path
) -> None:
    async def use(client: RawClient) -> None:
        stuck = await client.session(window=0)
        assert await stuck.asked(b"exec", String(b"yes"))
        assert (await client.run(b"echo other channel")).output == b"other channel\n"

    within(stack, use)


# -- too many -----------------------------------------------------------------------------------------


def test_ten_thousand_session_opens_get_the_limit_and_a_sentence(
    stack: Stack, neighbour: Neighbour, tmp_path: Path
) -> None:
    async def use(client: RawClient) -> None:
        channels = []
        for number in range(10_000):
            channels.append(RawChannel(client.ssh))
            channels[-1].open()
            if number % 500 == 0:
                await asyncio.sleep(0)
        answers = await asyncio.gather(*(c.is_open() for c in channels), return_exceptions=True)
        refused = {str(a) for a in answers if isinstance(a, asyncssh.ChannelOpenError)}
        assert sum(isinstance(a, tuple) for a in answers) == 64
        assert len(refused) == 1
        assert "64 sessions already" in refused.pop()
        assert await channels[0].asked(b"exec", String(b"echo first"))
        await channels[0].is_closed()
        assert channels[0].output == b"first\n"

    with stack.one_new_row() as row:
        within(stack, use)
    assert row["disconnect_initiator"] == "client"


def test_thousands_of_forwards_to_a_closed_port_are_each_declined(
    stack: Stack, neighbour: Neighbour, tmp_path: Path
) -> None:
    destination = String("127.0.0.1") + UInt32(1) + String("127.0.0.1") + UInt32(1)

    async def use(client: RawClient) -> None:
        channels = [RawChannel(client.ssh) for _ in range(3_000)]
        for channel in channels:
            channel.open(b"direct-tcpip", 1 << 21, 1 << 15, destination)
        answers = await asyncio.gather(*(c.is_open() for c in channels), return_exceptions=True)
        assert all(isinstance(a, asyncssh.ChannelOpenError) for a in answers)
        assert (await client.run(b"echo still here")).output == b"still here\n"

    with stack.one_new_row() as row:
        within(stack, use)
    assert row["disconnect_initiator"] == "client"


def test_an_environment_bomb_is_cut_off_and_the_command_runs(
    stack: Stack, neighbour: Neighbour, tmp_path: Path
) -> None:
    async def use(client: RawClient) -> None:
        channel = await client.session()
        channel.request(b"env", String(b"HUGE"), String(b"x" * 200_000), reply=False)
        for number in range(10_000):
            channel.request(b"env", String(f"V{number}"), String(b"x" * 1000), reply=False)
        channel.request(b"env", String(b"LATE"), String(b"v"), reply=False)
        assert await channel.asked(b"exec", String(b"env | wc -c; env | grep -c ^V"))
        await channel.is_closed()
        size, kept = map(int, channel.output.split())
        assert size < 100_000
        assert 10 < kept <= 256
        assert channel.exit_code == 0

    with stack.one_new_row() as row:
        within(stack, use)
    assert truth(row) in {GRACEFUL, ("process_crashed", "client", False)}


def test_a_command_that_is_too_long_says_so(stack: Stack, neighbour: Neighbour) -> None:
    async def use(client: RawClient) -> None:
        channel = await client.run(b"true " + b"x" * 200_000)
        assert channel.exit_code == 229
        assert b"could not be started: Argument list too long" in channel.errors

    with stack.one_new_row() as row:
        within(stack, use)
    assert (truth(row), row["exit_code"]) == (GRACEFUL, 229)


# -- names ---------------------------------------------------------------------------------------------


def test_names_with_newlines_and_quotes_work_everywhere(
    stack: Stack, neighbour: Neighbour, tmp_path: Path
) -> None:
    name = "new\nline 'quote' \"double\" $HOME `id` \\ \u202e \x07"
    source = tmp_path / name
    source.write_text("odd\n")
    there = stack.home / "odd names"
    there.mkdir()
    stack.run("scp", "-F", str(stack.ssh_config), str(source), f"{stack.host}:{there}/", check=True)
    assert [p.name for p in there.iterdir()] == [name]
    shell = f"ssh -F {stack.ssh_config}"
    stack.run("rsync", "-a", "-e", shell, f"{stack.host}:{there}/", f"{tmp_path}/back", check=True)
    assert (tmp_path / "back" / name).read_text() == "odd\n"


def test_a_nul_in_a_command_or_a_path_is_refused(
    stack: Stack, neighbour: Neighbour, tmp_path: Path
) -> None:
    async def use(client: RawClient) -> None:
        channel = await client.session()
        assert await channel.asked(b"exec", String(b"echo a\0; touch nul-file")) is False
        sftp = await client.ssh.start_sftp_client()
        with pytest.raises((asyncssh.SFTPError, asyncssh.Error)):
            async with sftp.open(f"{stack.home}/cut\0off", "w") as file:
                await file.write("x")
        assert (await client.run(b"echo still here")).output == b"still here\n"

    with stack.one_new_row() as row:
        within(stack, use)
    assert row["disconnect_initiator"] == "client"
    assert not (stack.home / "cut").exists()


# -- what a machine lacks -------------------------------------------------------------------------------


def test_no_free_file_descriptor_is_said_and_passes(stack: Stack, neighbour: Neighbour) -> None:
    pid = stack.agent.pid
    if not hasattr(resource, "prlimit"):
        pytest.skip("this system has no prlimit")
    stack.ssh("true")  # whatever is opened once and kept is open now
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    opened = len(os.listdir(f"/proc/{pid}/fd"))
    try:
        # One more for the tunnel itself, none for a process's pipes.
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (opened + 1, before[1]))
        with stack.one_new_row() as row:
            done = stack.ssh("echo hello")
        assert (done.returncode, done.stdout) == (229, "")
        assert "could not be started: Too many open files" in done.stderr
        said = row["disconnect_cause"], row["disconnect_expected"], row["exit_code"]
        assert said == ("agent.descriptors_exhausted", False, 229)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
        done = stack.ssh("echo hello")
        assert done.returncode == 255
        assert "(the agent could not join the tunnel: " in done.stderr
        assert "EMFILE" in done.stderr
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    assert stack.ssh("echo hello").stdout == "hello\n"


LACKING = """
set -e
mount --make-rprivate /
mount -t tmpfs -o size=64k none "$1/full"
mount -t tmpfs -o size=1m none "$1/agent"
mount -t devpts -o newinstance,ptmxmode=0666,max=1 devpts /dev/pts
mount --bind /dev/pts/ptmx /dev/ptmx
cp /etc/passwd "$1/passwd"
sed -i 's,^root:.*,root:x:0:0:root:/nowhere:'"$2"',' "$1/passwd"
mount --bind "$1/passwd" /etc/passwd
shift 2
exec "$@"
"""


class Poor:
    """A workspace whose machine lacks things: `full` is a full disk, and it has one terminal."""

    def __init__(self, stack: Stack, name: str, shell: str, home: Path) -> None:
        self._stack, self.name = stack, name
        self.root = stack.root / name
        (self.root / "full").mkdir(parents=True)
        (self.root / "agent").mkdir()
        made = json.loads(stack.tether("workspace", "create", name, "--json").stdout)
        token = self.root / "token"
        token.write_text(made["agent_token"])
        token.chmod(0o600)
        self.agent = Program(
            [
                *("unshare", "-m", "sh", "-c", LACKING, "sh", str(self.root), shell),
                *(*TETHER, "agent", "--server", stack.url, "--token-file", str(token)),
                *("--data-dir", str(self.root / "agent"), "--log-format", "json"),
            ],
            stack.root / f"{name}.log",
            {**stack.env, "HOME": str(home)},
        )

    def ready(self) -> Poor:
        self.agent.wait_event("agent ready")
        self._stack.tether("config-ssh", "--ssh-config-file", str(self._stack.ssh_config))
        return self

    def ssh(self, *words: str, **more: Any) -> subprocess.CompletedProcess[str]:
        return self._stack.run(*self._stack.ssh_argv(f"{self.name}.tether", *words), **more)


@pytest.fixture(scope="module")
def cannot_unshare() -> None:
    probe = ["unshare", "-m", "sh", "-c", "mount --make-rprivate / && mount -t tmpfs none /mnt"]
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("needs a mount namespace of its own (root, or user namespaces)")


@pytest.fixture(scope="module")
def poor(stack: Stack, cannot_unshare: None) -> Iterator[dict[str, Poor]]:
    made = {
        "bare": Poor(stack, "bare", "/no/such/shell", stack.root / "no" / "home"),
        "full": Poor(stack, "full", "/bin/sh", stack.home),
    }
    try:
        yield {name: one.ready() for name, one in made.items()}
    finally:
        for one in made.values():
            one.agent.stop()


def test_a_shell_that_does_not_exist_is_named(stack: Stack, poor: dict[str, Poor]) -> None:
    with stack.one_new_row() as row:
        done = poor["bare"].ssh("echo hello")
    assert done.returncode == 127
    assert "tether: /no/such/shell does not exist or may not be run\n" in done.stderr
    assert (truth(row), row["exit_code"]) == (GRACEFUL, 127)


def test_a_home_that_does_not_exist_is_named_and_sftp_still_works(
    stack: Stack, poor: dict[str, Poor], tmp_path: Path
) -> None:
    done = poor["bare"].ssh("echo hello")
    missing = stack.root / "no" / "home"
    assert f"tether: the directory {missing} cannot be entered; starting in /\n" in done.stderr
    (tmp_path / "f").write_text("f\n")
    with stack.one_new_row() as row:
        target = f"bare.tether:{poor['bare'].root}/copied"
        stack.run("scp", "-F", str(stack.ssh_config), str(tmp_path / "f"), target, check=True)
    assert (poor["bare"].root / "copied").read_text() == "f\n"
    assert truth(row) == GRACEFUL


def test_a_full_disk_is_the_programs_error_and_nobody_elses(
    stack: Stack, neighbour: Neighbour, poor: dict[str, Poor], tmp_path: Path
) -> None:
    (tmp_path / "big").write_bytes(b"x" * 1_000_000)
    full = poor["full"].root / "full"
    with stack.one_new_row() as command:
        done = poor["full"].ssh(f"head -c 1000000 /dev/zero >{full}/f")
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    with stack.one_new_row() as legacy:
        scp = ["scp", "-F", str(stack.ssh_config)]
        old = stack.run(*scp, "-O", str(tmp_path / "big"), f"full.tether:{full}/g")
    assert old.returncode != 0
    assert "No space left on device" in old.stderr
    with stack.one_new_row() as sftp:
        new = stack.run(*scp, "-s", str(tmp_path / "big"), f"full.tether:{full}/h")
    assert new.returncode != 0
    assert new.stderr.count(f'tether: sftp: write "{full}/h": No space left on device') == 1
    assert [truth(row) for row in (command, legacy, sftp)] == [GRACEFUL] * 3
    assert poor["full"].ssh("echo fine").stdout == "fine\n"


def test_an_agent_whose_own_disk_is_full_serves_on_and_reports_later(
    stack: Stack, neighbour: Neighbour, poor: dict[str, Poor]
) -> None:
    own, before = poor["full"].root / "agent", stack.ids()
    filler = stack.spawn_ssh("full.tether", f"cat /dev/zero >{own}/fill; cat; rm {own}/fill")
    try:
        assert filler.stderr is not None
        assert b"No space left" in filler.stderr.readline()
        done = poor["full"].ssh("echo hello; exit 3")
        assert (done.returncode, done.stdout) == (3, "hello\n")
        poor["full"].agent.wait_event("journal cannot be written")
    finally:
        filler.communicate(timeout=DEADLINE_S)  # the end of its input makes room again

    def reported() -> list[int] | None:
        new = [r for r in stack.connections(workspace="full") if r["id"] not in before]
        codes = [r["exit_code"] for r in new if r["disconnect_cause"] == "session.exit"]
        return codes if len(codes) == 2 else None

    assert sorted(wait_for("both reports", reported)) == [0, 3]


def test_no_free_terminal_is_said_and_commands_still_run(
    stack: Stack, neighbour: Neighbour, poor: dict[str, Poor]
) -> None:
    first = stack.spawn_ssh("-tt", "full.tether", "echo up; cat")
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == b"up\r\n"
        second = poor["full"].ssh("-tt", "echo hello")
        # With -tt ssh insists and leaves; whoever does not insist works on without one.
        assert (second.returncode, second.stdout) == (255, "")
        assert "PTY allocation request failed" in second.stderr
        poor["full"].agent.wait_event("no terminal can be opened")
        assert poor["full"].ssh("echo hello").stdout == "hello\n"
    finally:
        first.terminate()
        first.wait(DEADLINE_S)
    wait_for("the terminal to be free again", lambda: poor["full"].ssh("-tt", "tty").stdout or None)


def test_every_one_of_these_ends_is_attributed(stack: Stack, neighbour: Neighbour) -> None:
    rows = stack.connections(limit=1000)
    closed = [r for r in rows if r["disconnected_at"] and r["connect_type"] == "agent_to_client"]
    assert [r["id"] for r in closed if r["disconnect_reason"] == "unknown"] == []
    others = {r["disconnect_cause"] for r in closed if r["disconnect_initiator"] != "client"}
    assert others <= {"agent.descriptors_exhausted"}, "what the agent could not start"
    wrong = [line for line in stack.agent.events() if line["level"] in ("error", "critical")]
    assert {line["event"] for line in wrong} <= {"ssh session failed"}, "what could not be started"
    traces = [line for line in stack.agent.log.read_text().splitlines() if line[:1] != "{"]
    assert traces == []


def test_the_agent_is_as_lean_as_before(stack: Stack, neighbour: Neighbour) -> None:
    proc = Path(f"/proc/{stack.agent.pid}")
    resident = int((proc / "statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    assert resident < 250_000_000
    wait_for("descriptors to be closed", lambda: len(os.listdir(proc / "fd")) < 50 or None)
    states = [
        Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        for pid in children_of(stack.agent.pid)
    ]
    assert "Z" not in states, "every process was reaped"
