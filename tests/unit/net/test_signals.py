"""Who asked us to stop: the sender of a signal, told by a real kernel to a real process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.support.deadline import DEADLINE_S

WATCH = """
import asyncio, os, subprocess, sys
from tether.net.signals import SignalWatcher, block, Received

block()

async def main():
    loop = asyncio.get_running_loop()
    got = asyncio.Queue()
    watcher = SignalWatcher(got.put_nowait)
    print("ready", flush=True)
    received = await got.get()
    print(received.number, received.sender, flush=True)
    watcher.stop()
    watcher.stop()

asyncio.run(main())
print("clean", flush=True)
"""

MASK = """
import os, sys
from tether.net.signals import block

block()
child = [sys.executable, "-c", "import signal; print(sorted(signal.pthread_sigmask(0, ())))"]
pid = os.posix_spawn(sys.executable, child, os.environ, setsigmask=())
assert os.waitpid(pid, 0)[1] == 0
"""

SELF = """
import asyncio, os, signal, sys
from tether.net.signals import SignalWatcher, block

block()

async def main():
    got = asyncio.Queue()
    watcher = SignalWatcher(got.put_nowait)
    for number in (signal.SIGHUP, signal.SIGTERM):
        os.kill(os.getpid(), signal.SIGUSR2)
        os.kill(os.getpid(), number)
        print((await got.get()).number, flush=True)
    watcher.stop()

asyncio.run(main())
"""

LATE = """
import asyncio, os, signal, time, threading
from tether.net.signals import SignalWatcher, block

block()
loop = asyncio.new_event_loop()

async def main():
    return SignalWatcher(lambda received: print("told", flush=True))

watcher = loop.run_until_complete(main())
loop.close()
os.kill(os.getpid(), signal.SIGTERM)
watcher._thread.join(5)
print("thread ended" if not watcher._thread.is_alive() else "thread lives", flush=True)
"""


def python(code: str, *, stdin: int | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=stdin,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def output(code: str) -> list[str]:
    with python(code) as process:
        try:
            out, _ = process.communicate(timeout=DEADLINE_S)
        finally:
            process.kill()
        assert process.returncode == 0
        return out.splitlines()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_sender_of_a_signal_is_told(number: signal.Signals) -> None:
    with python(WATCH) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            os.kill(process.pid, number)
            assert process.stdout.readline() == (
                f"{int(number)} pid {os.getpid()} uid {os.getuid()} (the parent)\n"
            )
            assert process.stdout.readline() == "clean\n"
            assert process.wait(DEADLINE_S) == 0
        finally:
            process.kill()


def test_a_sender_that_is_not_the_parent_is_told_by_its_pid() -> None:
    with python(WATCH) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            killer = subprocess.Popen(["kill", "-TERM", str(process.pid)])
            killer.wait(DEADLINE_S)
            assert process.stdout.readline() == f"15 pid {killer.pid} uid {os.getuid()}\n"
            assert process.wait(DEADLINE_S) == 0
        finally:
            process.kill()


def test_programs_that_are_started_can_be_given_an_empty_mask() -> None:
    assert output(MASK) == ["[]"]


def test_several_signals_are_told_in_turn_and_our_own_wake_up_is_not() -> None:
    assert output(SELF) == ["1", "15"]


def test_a_signal_after_the_loop_has_closed_harms_nothing() -> None:
    assert output(LATE) == ["thread ended"]
