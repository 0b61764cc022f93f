"""Children of `tether up`: start, look into the log, stop."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from tether.net.clock import SystemClock
from tether.run.children import ChildProgram, child_environment, how_it_ended, rotate


def play(child: ChildProgram, scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        try:
            await scene()
        finally:
            child.signal(signal.SIGKILL)
            if child.pid is not None:
                await child.ended()

    asyncio.run(main())


def test_what_a_child_says_goes_to_its_log_and_its_end_is_told(tmp_path: Path) -> None:
    child = ChildProgram("version", [], tmp_path / "v.log", SystemClock())

    async def scene() -> None:
        child.start()
        assert await child.ended() == 0
        assert (child.last_words(), child.pid) == ("tether 0.1.0", None)
        child.start()
        assert await child.ended() == 0

    play(child, scene)
    assert child.log.read_text() == "tether 0.1.0\n" * 2
    assert child.log.stat().st_mode & 0o777 == 0o600


def test_a_child_that_cannot_start_tells_why_in_a_line(tmp_path: Path) -> None:
    child = ChildProgram("version", ["--frob"], tmp_path / "v.log", SystemClock())

    async def scene() -> None:
        child.start()
        assert await child.wait_event("ready", 20) is None
        assert await child.ended() == 2
        assert child.last_words() == "No such option '--frob'. See `tether version --help`."

    play(child, scene)


def test_a_child_has_a_group_of_its_own_no_blocked_signals_and_follows_us(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "never")  # reading its token, the child waits for as long as we like
    arguments = ["http://127.0.0.1:1", "--token-file", str(tmp_path / "never")]
    child = ChildProgram("login", arguments, tmp_path / "log", SystemClock())

    async def scene() -> None:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP})
        try:
            child.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        assert child.pid is not None
        assert os.getpgid(child.pid) == child.pid
        status = Path(f"/proc/{child.pid}/status").read_text()
        assert "SigBlk:\t0000000000000000" in status
        child.signal(signal.SIGKILL)
        assert await child.ended() == -signal.SIGKILL

    play(child, scene)


def test_events_of_an_earlier_run_do_not_count(tmp_path: Path) -> None:
    log = tmp_path / "v.log"
    log.write_text('{"event": "ready", "url": "old"}\n')
    child = ChildProgram("version", [], log, SystemClock())

    async def scene() -> None:
        child.start()
        await child.ended()
        assert await child.wait_event("ready", 20) is None
        with log.open("a") as file:
            file.write('not json, but ready\n{"event": "ready", "url": "new"}\n')
        assert await child.wait_event("ready", 20) in ({}, {"event": "ready", "url": "new"})

    play(child, scene)


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
