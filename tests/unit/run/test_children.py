"""Children of `tether up`: start, look into the log, stop."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tether.net.clock import SystemClock
from tether.run.children import ChildProgram, child_environment, how_it_ended, rotate
from tether.version import VERSION

Child = Callable[..., ChildProgram]


@pytest.fixture
async def child(tmp_path: Path) -> AsyncIterator[Child]:
    """Makes a child that is not started yet, and ends it with the test."""
    made: list[ChildProgram] = []

    def make(command: str, *arguments: str) -> ChildProgram:
        made.append(ChildProgram(command, list(arguments), tmp_path / "log", SystemClock()))
        return made[-1]

    yield make
    for each in made:
        each.signal(signal.SIGKILL)
        if each.pid is not None:
            await each.ended()


async def test_what_a_child_says_goes_to_its_log_and_its_end_is_told(child: Child) -> None:
    version = child("version")
    version.start()
    assert await version.ended() == 0
    assert (version.last_words(), version.pid) == (f"tether {VERSION}", None)
    version.start()
    assert await version.ended() == 0
    assert version.log.read_text() == f"tether {VERSION}\n" * 2
    assert version.log.stat().st_mode & 0o777 == 0o600


async def test_a_child_that_cannot_start_tells_why_in_a_line(child: Child) -> None:
    version = child("version", "--frob")
    version.start()
    assert await version.wait_event("ready", 20) is None
    assert await version.ended() == 2
    assert version.last_words() == "No such option '--frob'. See `tether version --help`."


async def test_a_child_has_a_group_of_its_own_no_blocked_signals_and_follows_us(
    child: Child, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "never")  # reading its token, the child waits for as long as we like
    login = child("login", "http://127.0.0.1:1", "--token-file", str(tmp_path / "never"))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP})
    try:
        login.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert login.pid is not None
    assert os.getpgid(login.pid) == login.pid
    status = Path(f"/proc/{login.pid}/status").read_text()
    assert "SigBlk:\t0000000000000000" in status
    login.signal(signal.SIGKILL)
    assert await login.ended() == -signal.SIGKILL


async def test_events_of_an_earlier_run_do_not_count(child: Child) -> None:
    version = child("version")
    version.log.write_text('{"event": "ready", "url": "old"}\n')
    version.start()
    await version.ended()
    assert await version.wait_event("ready", 20) is None
    with version.log.open("a") as file:
        file.write('not json, but ready\n{"event": "ready", "url": "new"}\n')
    assert await version.wait_event("ready", 20) in ({}, {"event": "ready", "url": "new"})


def test_the_users_own_token_stays_with_the_user() -> None:
    env = {"TETHER_TOKEN": "t", "TETHER_URL": "u", "TETHER_RESULT_FILE": "r", "LANG": "C"}
    assert child_environment(env) == {"LANG": "C", "TETHER_PARENT_PID": str(os.getpid())}


@pytest.mark.parametrize(
    ("status", "words"), [(-9, "was ended by signal 9"), (1, "ended with exit code 1")]
)
def test_an_end_has_words(status: int, words: str) -> None:
    assert how_it_ended(status) == words


def test_the_last_log_is_kept_beside_the_new_one(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "x.log"
    rotate(log)
    for text in ("one", "two"):
        log.write_text(text)
        rotate(log)
    assert [(p.name, p.read_text()) for p in log.parent.iterdir()] == [("x.log.1", "two")]
