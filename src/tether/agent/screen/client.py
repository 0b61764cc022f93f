"""The agent's side of the screen host: feed a terminal's output to it, ask it what the screen shows.

Law: it never blocks and never fails. The answer is None where there is none to be had: while the host
restarts after a crash, after it has crashed too often, and where the emulator is not installed. Whoever
feeds faster than the host takes is told to wait. The host's end is no disconnect: it carries no session.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import signal
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tether.agent.process.process import ExitStatus, Pipes, Process, Processes
from tether.agent.screen import wire
from tether.agent.screen.wire import Op
from tether.log import get_logger

HIGH_WATER = 1 << 20
"""Bytes on their way to the host above which its feeders are to wait."""

CRASHES_ALLOWED = 3
"""Restarts of the host in the life of an agent; then terminals do without."""

PATIENCE_S = 10.0
"""How long the host may take to show a screen before it is taken for stuck, and killed."""

_READ = 256 << 10
_STDERR_KEPT = 4096
_PASSED_ON = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "LANG")


class ScreenOwner(Protocol):
    """The terminal that a screen belongs to. Everything is called in the event loop."""

    def screen_answers(self, data: bytes) -> None:
        """The terminal answers a query of the program: write this to it."""

    def screen_lost(self) -> None:
        """The screen was lost and is blank now: make the program draw it again."""

    def screen_has_room(self) -> None:
        """Feeding may go on."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One picture of a screen."""

    vt: bytes
    """What makes another terminal show it."""
    title: str


class EmulatedScreen:
    """One terminal's screen in the host."""

    def __init__(
        self, screens: Screens, number: int, owner: ScreenOwner, rows: int, cols: int
    ) -> None:
        self.owner = owner
        self.rows = rows
        self.cols = cols
        self._screens = screens
        self._number = number

    @property
    def crowded(self) -> bool:
        """Whether to wait for `screen_has_room` before more is fed."""
        return self._screens.crowded

    @property
    def usable(self) -> bool:
        """Whether anything is emulated at all."""
        return self._screens.usable

    def feed(self, data: bytes) -> None:
        """The program wrote this."""
        self._screens.send(wire.encode(Op.FEED, self._number, data))

    def resize(self, rows: int, cols: int) -> None:
        """The terminal has this size now."""
        self.rows = rows
        self.cols = cols
        self._screens.send(wire.encode(Op.RESIZE, self._number, wire.sides(rows, cols)))

    def show(
        self, *, history: int = 0, rows: int = 0, cols: int = 0
    ) -> asyncio.Future[Shown | None]:
        """What the screen shows after everything that was fed so far; None if it cannot be told.

        Args:
            history: lines of scrollback to put before it.
            rows: of the window, where it has another size than the terminal; else 0.
            cols: of the window, likewise.
        """
        return self._screens.ask(self._number, history, rows, cols)

    def close(self) -> None:
        """Forget this screen: its terminal has ended."""
        self._screens.forget(self._number)


class Screens:
    """Every screen of an agent, and the one host behind them, which is started with the first."""

    def __init__(self, processes: Processes, *, command: Sequence[str] = ()) -> None:
        self.usable = bool(command) or importlib.util.find_spec("pyghostty") is not None
        self._command = command or (sys.executable, "-m", "tether.agent.screen.host")
        self._processes = processes
        self._loop = asyncio.get_running_loop()
        self._log = get_logger("agent.screens")
        self._screens: dict[int, EmulatedScreen] = {}  # by number
        self._next_number = 1  # of a screen
        self._next_ticket = 1  # of a question
        self._waiting: dict[int, asyncio.Future[Shown | None]] = {}  # open questions by ticket
        self._crashes = 0
        self._process: Process | None = None  # the host
        self._pipes: Pipes | None = None  # to the host; None while there is none
        self._frames = wire.Frames()  # what came of a frame
        self._outbox: deque[memoryview] = deque()  # frames that the host has not taken yet
        self._queued = 0  # their bytes
        self._crowded = False  # feeders were told to wait
        self._stderr_tail = b""  # the last of what the host wrote to its standard error
        self._stuck: asyncio.TimerHandle | None = None  # when the host is taken for stuck

    @property
    def _running(self) -> bool:
        return self._pipes is not None

    @property
    def crowded(self) -> bool:
        """Whether the host is behind."""
        return self._crowded

    def open(self, owner: ScreenOwner, *, rows: int, cols: int) -> EmulatedScreen:
        """A blank screen."""
        number, self._next_number = self._next_number, self._next_number + 1
        screen = self._screens[number] = EmulatedScreen(self, number, owner, rows, cols)
        if self._running:
            self.send(wire.encode(Op.OPEN, number, wire.sides(rows, cols)))
        else:
            self._start()
        return screen

    def ask(self, number: int, history: int, rows: int, cols: int) -> asyncio.Future[Shown | None]:
        """Ask what a screen shows: see `EmulatedScreen.show`."""
        future: asyncio.Future[Shown | None] = self._loop.create_future()
        if not self._running:
            future.set_result(None)
            return future
        ticket, self._next_ticket = self._next_ticket, self._next_ticket % (1 << 31) + 1
        self._waiting[ticket] = future
        self.send(wire.encode(Op.SHOW, number, wire.wanted(ticket, history, rows, cols)))
        if self._stuck is None:
            self._stuck = self._loop.call_later(PATIENCE_S, self._give_up)
        return future

    def forget(self, number: int) -> None:
        """A screen is not needed any more."""
        if self._screens.pop(number, None) is not None:
            self.send(wire.encode(Op.CLOSE, number))

    def send(self, frame: bytes) -> None:
        """Queue one frame; it is dropped while there is no host."""
        if not self._running:
            return
        self._outbox.append(memoryview(frame))
        self._queued += len(frame)
        if len(self._outbox) == 1:
            self._write()
        self._crowded = self._crowded or self._queued > HIGH_WATER

    def close(self) -> None:
        """End the host. What was asked is answered with None."""
        self.usable = False
        self._screens.clear()
        self._disconnect()

    def _start(self) -> None:
        if not self.usable:
            return
        env = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        self._stderr_tail = b""
        try:
            self._process, pipes = self._processes.spawn(
                self._command, env=env, directory="/", on_exit=self._exited
            )
        except OSError as wrong:
            self.usable = False
            self._log.warning("screen host not started", detail=str(wrong))
            return
        self._pipes = pipes
        self._frames = wire.Frames()
        self._loop.add_reader(pipes.stdout, self._read)
        self._loop.add_reader(pipes.stderr, self._read_stderr)
        for number, screen in self._screens.items():
            self.send(wire.encode(Op.OPEN, number, wire.sides(screen.rows, screen.cols)))

    def _exited(self, status: ExitStatus) -> None:
        if self._pipes is None:  # we ended it
            return
        self._crashes += 1
        self.usable = self._crashes <= CRASHES_ALLOWED
        self._read_stderr()
        self._log.error(
            "screen host crashed",
            exit_code=status.code,
            exit_signal=status.signal,
            screens=len(self._screens),
            restarts=self.usable,
            detail=self._stderr_tail[-_STDERR_KEPT:].decode("utf-8", "replace"),
        )
        self._disconnect()
        if self.usable:
            self._start()
        for screen in list(self._screens.values()):
            screen.owner.screen_lost()
            screen.owner.screen_has_room()

    def _disconnect(self) -> None:
        pipes, self._pipes = self._pipes, None
        if pipes is not None:
            for descriptor in (pipes.stdout, pipes.stderr):
                self._loop.remove_reader(descriptor)
            self._loop.remove_writer(pipes.stdin)
            for descriptor in (pipes.stdin, pipes.stdout, pipes.stderr):
                os.close(descriptor)
        self._outbox.clear()
        self._queued = 0
        self._crowded = False
        self._disarm()
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_result(None)

    def _read(self) -> None:
        if self._pipes is None:
            return
        try:
            data = os.read(self._pipes.stdout, _READ)
        except BlockingIOError:
            return
        if not data:  # its end is told by `_exited`, with how
            self._loop.remove_reader(self._pipes.stdout)
            return
        self._received(data)

    def _received(self, data: bytes) -> None:
        for op, number, body in self._frames.feed(data):
            if op is Op.ANSWER and number in self._screens:
                self._screens[number].owner.screen_answers(body)
            elif op is Op.SHOWN:
                ticket, title, vt = wire.read_shown(body)
                future = self._waiting.pop(ticket, None)
                self._disarm()
                if self._waiting:
                    self._stuck = self._loop.call_later(PATIENCE_S, self._give_up)
                if future is not None and not future.done():
                    future.set_result(Shown(vt, title))

    def _read_stderr(self) -> None:
        if self._pipes is None:
            return
        with contextlib.suppress(BlockingIOError):
            if data := os.read(self._pipes.stderr, _STDERR_KEPT):
                self._stderr_tail = (self._stderr_tail + data)[-_STDERR_KEPT:]
            else:
                self._loop.remove_reader(self._pipes.stderr)

    def _write(self) -> None:
        if self._pipes is None:
            return
        try:
            while self._outbox:
                written = os.write(self._pipes.stdin, self._outbox[0])
                self._queued -= written
                if written < len(self._outbox[0]):
                    self._outbox[0] = self._outbox[0][written:]
                else:
                    self._outbox.popleft()
        except BlockingIOError:
            pass
        except BrokenPipeError:  # its end is told by `_exited`
            self._outbox.clear()
            self._queued = 0
        if self._outbox:
            self._loop.add_writer(self._pipes.stdin, self._write)
        else:
            self._loop.remove_writer(self._pipes.stdin)
        if self._crowded and self._queued <= HIGH_WATER // 2:
            self._crowded = False
            for screen in list(self._screens.values()):
                screen.owner.screen_has_room()

    def _give_up(self) -> None:
        self._stuck = None
        if self._process is not None:
            self._log.error("screen host stuck", waited_s=PATIENCE_S)
            self._process.signal(signal.SIGKILL)

    def _disarm(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None
