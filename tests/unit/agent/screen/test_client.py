"""The screen host behind its pipes: order, crashes, a host that is stuck, and none at all."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import given, strategies as st

from tether.agent.process.process import Processes
from tether.agent.screen import wire
from tether.agent.screen.client import CRASHES_ALLOWED, HIGH_WATER, PATIENCE_S, Screens


class Owner:
    """Whom a screen belongs to: remembers what it was told."""

    def __init__(self) -> None:
        self.answers = b""
        self.told: list[str] = []
        self._changed = asyncio.Event()

    def screen_answers(self, data: bytes) -> None:
        self.answers += data
        self._changed.set()

    def screen_lost(self) -> None:
        self.told.append("lost")
        self._changed.set()

    def screen_has_room(self) -> None:
        self.told.append("room")
        self._changed.set()

    async def until(self, holds: Callable[[], object]) -> None:
        while not holds():
            self._changed.clear()
            await self._changed.wait()


@pytest.fixture
async def hosted() -> AsyncIterator[Callable[..., Screens]]:
    """Makes screens behind a real screen host, or behind `command` in its place."""
    processes, made = Processes(), list[Screens]()

    def host(*command: str) -> Screens:
        made.append(Screens(processes, command=command))
        return made[-1]

    yield host
    for screens in made:
        screens.close()
    await processes.end_all()


@pytest.fixture
async def screens(hosted: Callable[..., Screens]) -> Screens:
    return hosted()


@given(
    frames=st.lists(
        st.tuples(st.sampled_from(wire.Op), st.integers(0, 2**32 - 1), st.binary(max_size=40)),
        max_size=5,
    ),
    cut=st.integers(0, 500),
)
def test_frames_arrive_whole_however_the_pipe_cuts_them(
    frames: list[tuple[wire.Op, int, bytes]], cut: int
) -> None:
    stream = b"".join(wire.encode(*frame) for frame in frames)
    reader = wire.Frames()
    assert [*reader.feed(stream[:cut]), *reader.feed(stream[cut:])] == frames


def test_bodies_say_the_same_after_the_pipe() -> None:
    assert wire.read_sides(wire.sides(24, 80)) == (24, 80)
    assert wire.read_wanted(wire.wanted(7, 100, 0, 65535)) == (7, 100, 0, 65535)
    assert wire.read_shown(wire.shown(7, "日本", b"\x1b[H")) == (7, "日本", b"\x1b[H")


async def test_a_screen_shows_everything_that_was_fed_before_the_question(screens: Screens) -> None:
    screen, other = (screens.open(Owner(), rows=4, cols=20) for _ in range(2))
    asked = []
    for n in range(50):
        screen.feed(b"\x1b[H%d!" % n)
        other.feed(b"other")
        asked.append(screen.show())
    for n, future in enumerate(asked):
        shown = await future
        assert shown is not None
        assert b"%d!" % n in shown.vt
        assert b"other" not in shown.vt


async def test_questions_come_back_to_the_terminal_that_asked(screens: Screens) -> None:
    one, two = Owner(), Owner()
    first, second = screens.open(one, rows=4, cols=20), screens.open(two, rows=4, cols=20)
    first.feed(b"ab\x1b[6n")
    second.feed(b"\x1b[5n")
    second.resize(8, 30)
    await two.until(lambda: two.answers)
    await one.until(lambda: one.answers)
    assert (one.answers, two.answers) == (b"\x1b[1;3R", b"\x1b[0n")
    second.feed(b"\x1b]2;title\x07")
    shown = await second.show(rows=2, cols=5)
    assert shown is not None
    assert shown.title == "title"


async def test_who_feeds_faster_than_the_host_takes_is_told_to_wait_and_when_to_go_on(
    screens: Screens,
) -> None:
    owner = Owner()
    screen = screens.open(owner, rows=24, cols=80)
    fed = 0
    while not screen.crowded:
        screen.feed(b"y\r\n" * 20_000)
        fed += 60_000
    assert HIGH_WATER < fed < 4 * HIGH_WATER
    await owner.until(lambda: owner.told)
    assert (owner.told, screen.crowded) == (["room"], False)


async def test_a_host_that_crashes_is_replaced_and_its_screens_are_blank(screens: Screens) -> None:
    owner = Owner()
    screen = screens.open(owner, rows=4, cols=20)
    screen.feed(b"before")
    assert (await screen.show()) is not None
    host = screens._process
    assert host is not None
    host.signal(signal.SIGSTOP)
    asked = screen.show()
    host.signal(signal.SIGKILL)
    assert await asked is None
    await owner.until(lambda: owner.told == ["lost", "room"])
    screen.feed(b"after")
    shown = await screen.show()
    assert shown is not None
    assert (b"before" in shown.vt, b"after" in shown.vt) == (False, True)


async def test_a_host_that_cannot_live_is_not_started_for_ever(
    hosted: Callable[..., Screens],
) -> None:
    screens = hosted(sys.executable, "-c", "raise SystemExit('no emulator for this machine')")
    owner = Owner()
    screen = screens.open(owner, rows=4, cols=20)
    await owner.until(lambda: owner.told.count("lost") == CRASHES_ALLOWED + 1)
    assert screen.usable is False
    screen.feed(b"dropped")
    assert (await screen.show(), screen.crowded) == (None, False)


async def test_a_closed_screen_costs_nothing_more(screens: Screens) -> None:
    screen, other = (screens.open(Owner(), rows=4, cols=20) for _ in range(2))
    asked = screen.show()
    screen.close()
    screen.close()
    assert await asked is not None
    screen.feed(b"nothing")
    other.feed(b"fine")
    assert (await other.show()) is not None


async def test_whoever_waits_is_answered_when_the_agent_leaves(screens: Screens) -> None:
    screen = screens.open(Owner(), rows=4, cols=20)
    asked = screen.show()
    screens.close()
    assert await asked is None
    assert await screen.show() is None


@pytest.mark.virtual_time(grace=0.2)
async def test_a_host_that_is_stuck_is_killed_and_replaced(
    hosted: Callable[..., Screens],
) -> None:
    screens = hosted("/bin/cat", "/dev/null", "-")
    screen = screens.open(Owner(), rows=4, cols=20)
    screens._loop.remove_reader(screens._pipes.stdout)  # type: ignore[union-attr]
    began = screens._loop.time()
    assert await screen.show() is None
    assert screens._loop.time() - began == pytest.approx(PATIENCE_S, abs=0.5)


def test_the_agents_own_process_never_loads_the_emulator() -> None:
    modules = "sys, tether.agent.terminal.attach, tether.agent.terminal.service"
    code = f"import {modules}; print('pyghostty' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert told.stdout.strip() == "False"
