"""The line that the user sees while nothing moves: when, where, and that it goes away."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import termios
import tty
from collections.abc import (
    AsyncIterator,
    Iterator,
)
from typing import Any

import pytest

from tether.agent.screen.ghostty import Emulator
from tether.attribution.vocabulary import ConnectionMethod
from tether.client.status_line import (
    CLEAR,
    EVERY_S,
    QUIET_S,
    RESUMED_S,
    HandedScreen,
    NoScreen,
    StderrScreen,
    View,
    over,
    split,
)
from tether.protocol.carriers.commands import Carried, Stalled

pytestmark = pytest.mark.virtual_time

FRA = Carried(2, ConnectionMethod.DERP, "fra", 12.0)


class Glass:
    """A `Screen` that remembers."""

    def __init__(self, *, held: bool, columns: int = 100) -> None:
        self.raw, self.width = held, columns
        self.written: list[bytes] = []

    def held(self) -> bool:
        return self.raw

    def columns(self) -> int:
        return self.width

    def write(self, data: bytes) -> None:
        self.written.append(data)

    @property
    def text(self) -> str:
        return b"".join(self.written).decode()


class Stage:
    def __init__(self, glass: Glass) -> None:
        self.glass, self.redrawn = glass, 0
        loop = asyncio.get_running_loop()
        self.now = loop.time
        self.view = View("dev", glass, now=loop.time, redraw=self._redraw)

    def _redraw(self) -> None:
        self.redrawn += 1

    def lost(self, reason: str = "the relay went away") -> None:
        self.view.show(Stalled(self.now(), reason))


@contextlib.asynccontextmanager
async def on_stage(glass: Glass) -> AsyncIterator[Stage]:
    stage = Stage(glass)
    yield stage
    stage.view.close()


def lines(glass: Glass) -> list[str]:
    """What each write put on the top row; "" for an erased one."""
    shown = []
    for data in glass.written:
        text = data.decode().partition("\x1b[0;7m")[2].partition("\x1b[0m")[0]
        assert data.startswith(b"\x1b7") and data.endswith(b"\x1b8"), "the cursor is put back"
        shown.append(text)
    return shown


@pytest.mark.parametrize("held", [True, False])
async def test_a_gap_of_under_two_seconds_is_not_shown(held: bool) -> None:
    async with on_stage(Glass(held=held)) as stage:
        stage.lost()
        await asyncio.sleep(QUIET_S - 0.1)
        stage.view.show(Carried(2, ConnectionMethod.DERP, "fra", 1.9))
        await asyncio.sleep(60)

    assert stage.glass.written == []


async def test_on_a_held_terminal_the_top_row_counts_the_seconds_and_then_goes_away() -> None:
    async with on_stage(Glass(held=True)) as stage:
        stage.lost()
        await asyncio.sleep(QUIET_S + 2 * EVERY_S + 0.5)
        stage.view.show(FRA)
        assert stage.redrawn == 0
        await asyncio.sleep(RESUMED_S + 0.1)
        assert stage.redrawn == 1
        await asyncio.sleep(60)
        assert stage.redrawn == 1

    want = "tether: connection to dev lost {} s ago (the relay went away); reconnecting… ~. to quit"
    assert lines(stage.glass) == [
        *(want.format(seconds) for seconds in (2, 3, 4)),
        "tether: resumed after 12 s (now over derp region fra)",
        "",
    ]


async def test_elsewhere_it_is_one_plain_line_at_the_loss_and_one_when_it_resumed() -> None:
    async with on_stage(Glass(held=False)) as stage:
        stage.lost()
        await asyncio.sleep(600)
        stage.view.show(Carried(3, ConnectionMethod.DIRECT, "10.0.0.2:4", 600.0))
        await asyncio.sleep(60)
        assert stage.redrawn == 0

    assert stage.glass.text == (
        "tether: connection to dev lost (the relay went away); reconnecting…\n"
        "tether: connection to dev resumed after 10 min (now direct to 10.0.0.2:4)\n"
    )


async def test_an_end_while_the_line_is_there_leaves_a_clean_terminal() -> None:
    async with on_stage(Glass(held=True)) as stage:
        stage.lost("no answer")
        await asyncio.sleep(3)
        stage.view.close()
        stage.view.close()
        await asyncio.sleep(60)

    assert len(lines(stage.glass)) == 3
    assert lines(stage.glass)[-1] == ""


async def test_a_line_is_as_long_as_the_terminal_allows() -> None:
    async with on_stage(Glass(held=True, columns=40)) as stage:
        stage.lost()
        await asyncio.sleep(2.5)
    assert lines(stage.glass)[0] == "tether: connection to dev lost 2 s ago "


async def test_a_line_cannot_drive_the_terminal() -> None:
    async with on_stage(Glass(held=True)) as stage:
        stage.lost("a\x1b[2Jb")
        await asyncio.sleep(2.5)
    assert "(a [2Jb)" in lines(stage.glass)[0]


async def test_a_terminal_that_ssh_lets_go_of_meanwhile_gets_a_plain_line() -> None:
    async with on_stage(Glass(held=True)) as stage:
        stage.lost()
        await asyncio.sleep(2.5)
        stage.glass.raw = False
        stage.view.show(FRA)

    assert stage.glass.written[-1] == (
        b"tether: connection to dev resumed after 12 s (now over derp region fra)\n"
    )


async def test_a_second_loss_during_the_sentence_about_the_first_is_shown() -> None:
    async with on_stage(Glass(held=True)) as stage:
        stage.lost()
        await asyncio.sleep(3)
        stage.view.show(FRA)
        stage.lost("no answer")
        await asyncio.sleep(2.5)

    assert "(no answer)" in lines(stage.glass)[-2]


def test_quiet_is_quiet() -> None:
    screen = NoScreen()
    screen.write(b"x")
    assert (screen.held(), screen.columns()) == (False, 80)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (Carried(1, ConnectionMethod.DERP, "fra"), "over derp region fra"),
        (Carried(1, ConnectionMethod.DERP, ""), "over the relay"),
        (Carried(1, ConnectionMethod.DIRECT, "[::1]:4"), "direct to [::1]:4"),
    ],
)
def test_a_way_is_named_for_people(status: Carried, words: str) -> None:
    assert over(status) == words


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    master, slave = pty.openpty()
    yield master, slave
    os.close(master)
    os.close(slave)


def test_a_terminal_of_another_foreground_group_is_not_held(terminal: tuple[int, int]) -> None:
    _, slave = terminal
    tty.setraw(slave)
    assert not StderrScreen(slave).held()


def test_what_is_no_terminal_is_not_held(tmp_path: Any) -> None:
    with (tmp_path / "log").open("wb") as file:
        screen = StderrScreen(file.fileno())
        assert (screen.held(), screen.columns()) == (False, 80)
        screen.write(b"line\n")
    assert (tmp_path / "log").read_bytes() == b"line\n"


def test_a_terminal_that_was_stopped_with_ctrl_s_is_not_waited_for(
    terminal: tuple[int, int],
) -> None:
    master, slave = terminal
    termios.tcflow(slave, termios.TCOOFF)
    StderrScreen(slave).write(b"x" * 100)
    termios.tcflow(slave, termios.TCOON)
    os.set_blocking(master, False)
    with pytest.raises(BlockingIOError):
        os.read(master, 10)


_HELD = """
import os, sys, tty
from tether.client.status_line import StderrScreen
before = StderrScreen(0).held()
tty.setraw(0)
os.write(1, b"%d %d" % (before, StderrScreen(0).held()))
"""


def test_a_raw_terminal_in_our_foreground_is_held() -> None:
    import sys

    pid, master = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", _HELD])
    try:
        assert os.read(master, 20) == b"0 1"
    finally:
        os.waitpid(pid, 0)
        os.close(master)


async def test_the_line_leaves_the_cursor_the_colours_and_the_other_rows_alone() -> None:
    emulator, plain = (Emulator(rows=6, cols=60, history_bytes=0) for _ in range(2))
    before = b"\x1b[2;5r\x1b[?6h\x1b[31mone\r\ntwo\r\nthree\x1b[2;4H\x1b(0"
    after = b"qq\x1b(B and more"

    async with on_stage(Glass(held=True, columns=60)) as stage:
        stage.lost()
        await asyncio.sleep(3)
        stage.view.show(FRA)
        await asyncio.sleep(60)

    written = stage.glass.written
    emulator.feed(before + b"".join(written) + after)
    plain.feed(before + after)
    rows = [emulator.line(row, 0, 59) for row in range(6)]
    assert rows[1:] == [plain.line(row, 0, 59) for row in range(1, 6)]
    assert rows[0].strip() == b""


def test_an_attach_is_handed_what_to_draw_in_order_and_its_words_stay_words() -> None:
    read, write = os.pipe()
    screen = HandedScreen(columns=20, descriptor=write)
    assert (screen.held(), screen.columns()) == (True, 20)
    os.write(write, b"Warning: one\n")
    screen.write(b"\x1b7lost\x1b8")
    os.write(write, b"and two\n")
    screen.write(CLEAR)
    os.close(write)
    words, drawings = split(os.read(read, 4096))
    os.close(read)
    assert (words, drawings) == (b"Warning: one\nand two\n", [b"\x1b7lost\x1b8", CLEAR])
    assert split(b"half \x1e\x1b7lo") == (b"half \x1e\x1b7lo", [])
