"""Processes: what they start with, how they end, and that nothing is left."""

from __future__ import annotations

import asyncio
import errno
import os
import select
import signal
from collections.abc import AsyncIterator

import pytest

from tests.support.deadline import DEADLINE_S
from tether.agent.process.process import ExitStatus, Process, Processes
from tether.agent.process.pty import Terminal

ENV = {"PATH": "/usr/bin:/bin"}


@pytest.fixture
async def processes() -> AsyncIterator[Processes]:
    made = Processes()
    yield made
    await made.end_all(grace=1.0)
    assert len(made) == 0


class Run:
    """One finished process."""

    def __init__(self) -> None:
        self.process: Process
        self.out = b""
        self.err = b""
        self.status: ExitStatus


async def run(
    processes: Processes, script: str, *, directory: str = "/", argv: list[str] | None = None
) -> Run:
    """Run a shell script, or `argv`, to its end."""
    result, ended = Run(), asyncio.get_running_loop().create_future()
    result.process, pipes = processes.spawn(
        argv or ["/bin/sh", "-c", script], env=ENV, directory=directory, on_exit=ended.set_result
    )
    os.close(pipes.stdin)
    result.status = await asyncio.wait_for(ended, DEADLINE_S)
    os.set_blocking(pipes.stdout, True)
    os.set_blocking(pipes.stderr, True)
    with os.fdopen(pipes.stdout, "rb") as out, os.fdopen(pipes.stderr, "rb") as err:
        result.out, result.err = out.read(), err.read()
    return result


async def test_a_process_says_its_piece_and_its_code(processes: Processes) -> None:
    done = await run(processes, "echo out; echo err >&2; exit 7")
    assert (done.out, done.err, done.status) == (b"out\n", b"err\n", ExitStatus(code=7))
    assert done.process.status == ExitStatus(code=7)


@pytest.mark.parametrize("name", ["TERM", "KILL", "HUP", "SEGV", "USR1", "PIPE", "BUS"])
async def test_a_process_killed_by_a_signal_says_which(processes: Processes, name: str) -> None:
    done = await run(processes, f"ulimit -c 0; kill -{name} $$; sleep 60")
    assert done.status == ExitStatus(signal=name)


async def test_no_signal_is_blocked_or_ignored_in_a_process(processes: Processes) -> None:
    """The agent blocks SIGTERM for its watcher, and Python ignores SIGPIPE."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP})
    try:
        done = await run(processes, "grep -E '^Sig(Blk|Ign)' /proc/self/status")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    _, blocked, _, ignored = done.out.split()
    internal = 1 << 31 | 1 << 32  # 32 and 33 are the C library's own
    assert (int(blocked, 16), int(ignored, 16) & ~internal) == (0, 0)


async def test_a_process_gets_no_descriptor_but_its_three() -> None:
    read, write = os.pipe()
    os.set_inheritable(read, True)  # as if the agent had been started with it
    try:
        done = await run(Processes(), "ls /proc/$$/fd")
    finally:
        os.close(read)
        os.close(write)
    assert sorted(done.out.split()) == [b"0", b"1", b"2"]


async def test_a_process_leads_its_own_session(processes: Processes) -> None:
    done = await run(processes, "cut -d' ' -f5,6,7 /proc/$$/stat")
    pid = str(done.process.pid).encode()
    assert done.out.split() == [pid, pid, b"0"]  # group, session, no terminal


async def test_the_environment_is_only_what_was_given(processes: Processes) -> None:
    done = await run(processes, "", argv=["/usr/bin/env"], directory="/usr")
    assert dict(line.split(b"=", 1) for line in done.out.splitlines()) == {
        b"PATH": b"/usr/bin:/bin",
        b"PWD": b"/usr",
    }


async def test_a_process_starts_where_it_should(
    processes: Processes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    odd = tmp_path_factory.mktemp("a 'b' $c")
    assert (await run(processes, "pwd", directory=str(odd))).out == f"{odd}\n".encode()


async def test_without_its_directory_a_process_starts_at_the_root_and_is_told(
    processes: Processes,
) -> None:
    done = await run(processes, "pwd; exit 3", directory="/no/such")
    assert (done.out, done.err, done.status.code) == (
        b"/\n",
        b"tether: the directory /no/such cannot be entered; starting in /\n",
        3,
    )


async def test_a_program_that_does_not_exist_is_named(processes: Processes) -> None:
    done = await run(processes, "", argv=["/no/such/shell", "-l"])
    assert (done.err, done.status) == (
        b"tether: /no/such/shell does not exist or may not be run\n",
        ExitStatus(code=127),
    )


async def test_a_nul_byte_is_an_error_and_leaks_no_descriptor(processes: Processes) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="null"):
        processes.spawn(["/bin/sh", "-c", "\0"], env=ENV, directory="/", on_exit=print)
    assert os.listdir("/proc/self/fd") == before


async def test_a_signal_reaches_the_whole_group(processes: Processes) -> None:
    ended = asyncio.get_running_loop().create_future()
    process, pipes = processes.spawn(
        ["/bin/sh", "-c", "sleep 60 & echo ready; wait"],
        env=ENV,
        directory="/",
        on_exit=ended.set_result,
    )
    with os.fdopen(pipes.stdout, "rb") as out:
        os.set_blocking(out.fileno(), True)
        assert out.readline() == b"ready\n"
        process.signal(signal.SIGTERM)
        assert await asyncio.wait_for(ended, DEADLINE_S) == ExitStatus(signal="TERM")
        assert out.read() == b"", "the sleep holds the pipe: it must be gone too"
    os.close(pipes.stdin)
    os.close(pipes.stderr)
    process.signal(signal.SIGTERM)  # nothing, and above all nobody else


async def test_the_terminal_becomes_the_controlling_one(processes: Processes) -> None:
    terminal = Terminal((80, 24, 0, 0), {})
    ended = asyncio.get_running_loop().create_future()
    processes.spawn_on_terminal(
        ["/bin/sh", "-c", "tty; tty </dev/tty; stty size"],
        terminal.path,
        env=ENV,
        directory="/",
        on_exit=ended.set_result,
    )
    read, write = terminal.taken_over()
    await asyncio.wait_for(ended, DEADLINE_S)
    out = b""
    try:
        while data := os.read(read, 4096):
            out += data
    except OSError:
        pass  # EIO: the session's leader is gone, and the kernel has hung up
    os.close(read)
    os.close(write)
    path = terminal.path.encode()
    terminal.close()
    assert out.split(b"\r\n") == [path, b"/dev/tty", b"24 80", b""]


async def test_what_ignores_the_hang_up_is_killed(processes: Processes) -> None:
    statuses: list[ExitStatus] = []
    for script in ("trap '' HUP; echo ready; exec sleep 60", "echo ready; exec sleep 60"):
        _, pipes = processes.spawn(
            ["/bin/sh", "-c", script], env=ENV, directory="/", on_exit=statuses.append
        )
        os.set_blocking(pipes.stdout, True)
        assert os.read(pipes.stdout, 100) == b"ready\n"
        for descriptor in (pipes.stdin, pipes.stdout, pipes.stderr):
            os.close(descriptor)
    await processes.end_all(grace=0.2)
    assert statuses == [ExitStatus(signal="HUP"), ExitStatus(signal="KILL")]


async def test_the_jobs_of_a_shell_end_with_it(processes: Processes) -> None:
    """A job is a group of its own; one that ignores the hang-up outlives the shell that started it."""
    ended = asyncio.get_running_loop().create_future()
    script = "set -m; sh -c 'trap \"\" HUP; echo $$; exec sleep 60' & wait"
    _, pipes = processes.spawn(
        ["/bin/sh", "-c", script], env=ENV, directory="/", on_exit=ended.set_result
    )
    os.set_blocking(pipes.stdout, True)
    job = os.pidfd_open(int(os.read(pipes.stdout, 100)))
    for descriptor in (pipes.stdin, pipes.stdout, pipes.stderr):
        os.close(descriptor)
    processes.remember()
    next(iter(processes._live.values())).signal(signal.SIGKILL)  # its terminal is hung up, say
    await ended
    await processes.end_all(grace=0.2)
    ready, _, _ = select.select([job], [], [], DEADLINE_S)
    os.close(job)
    assert ready == [job]


async def test_a_machine_without_pidfds_still_reaps(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(pid: int, flags: int = 0) -> int:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", none)
    assert (await run(processes, "exit 5")).status == ExitStatus(code=5)
