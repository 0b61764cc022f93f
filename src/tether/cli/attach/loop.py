"""One attach, seen from the user's terminal: keys out, screen in, signals, and how it ended.

Law: the terminal is given back before anybody is told anything, whatever happens in between. Whoever
asks us to stop (a signal, a window that was closed) detaches: the remote terminal lives on.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from tether.cli.attach.keys import Keys
from tether.cli.attach.line import CROWDED, Line
from tether.cli.attach.local_terminal import Gone, LocalTerminal
from tether.client.status_line import CLEAR, is_sentence
from tether.net.clock import Clock
from tether.net.host.platform import number_of, signals
from tether.protocol.terminal.messages import (
    Attached,
    AttachEnded,
    Detach,
    Init,
    Item,
    Refused,
    Resize,
    Snapshot,
)

_STOPS = signals("SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT")
_SIGNALS = (*_STOPS, *signals("SIGWINCH", "SIGCONT"))
_DETACHES_S = 3.0
"""How long the agent may take to let us go."""


@dataclass(slots=True)
class AttachEnding:
    """How an attach ended."""

    attached: Attached | None = None
    """None: it never saw a terminal."""
    said: AttachEnded | None = None
    """None: the connection was lost, or none came up."""
    refused: Refused | None = None
    signal: int = 0
    """That asked us to stop."""


class AttachLoop:
    """Attaches, and attaches again, until the person or the terminal has ended. Call `run` once."""

    def __init__(self, line: Line, terminal: LocalTerminal, clock: Clock) -> None:
        self._line = line
        self._terminal = terminal
        self._clock = clock
        self._keys = Keys()
        self._ending = AttachEnding()
        self._typing = False
        self._leave_by: float | None = None
        self._size = (0, 0)
        self._drawn = False
        """Whether a line of ours is on the screen."""

    def run(self, init: Init) -> AttachEnding:
        """Stay attached until something ends it."""
        self._size = (init.rows, init.cols)
        with signals_to_descriptor() as woken:
            try:
                self._line.open(init)
                while not self._line.over and self._ending.said is None:
                    if not self._turn(woken):
                        self._line.give_up()  # nobody answers, and ssh would go on waiting
                        break
            finally:
                if self._drawn:
                    with suppress(Gone):
                        self._terminal.draw(CLEAR)
                self._terminal.restore()
        return self._ending

    def _turn(self, woken: int) -> bool:
        """Wait for one thing to happen and do what it asks for; False when waited for too long."""
        line, terminal = self._line, self._terminal
        wanted = [fd for fd in (woken, line.stdout, line.stderr) if fd is not None]
        if self._typing and line.waiting < CROWDED:
            wanted.append(terminal.stdin)
        wait = None if self._leave_by is None else self._leave_by - self._clock.now().mono
        if wait is not None and wait <= 0:
            return False
        ready, writable, _ = select.select(wanted, [line.stdin] if line.waiting else [], [], wait)
        if writable:
            line.flush()
        if woken in ready:
            for number in os.read(woken, 64):
                self._signalled(number)
        try:
            if self._typing and terminal.stdin in ready:
                self._typed(terminal.read())
            if line.stderr in ready:
                line.read_words()
                self._draw(line.drawn())
            for item in line.read() if line.stdout in ready else ():
                self._received(item)
        except Gone:
            self._leave(number_of("SIGHUP"))
        return True

    def _typed(self, typed: bytes) -> None:
        data, detach = self._keys.feed(typed)
        if data:
            self._line.send(data)
        if detach:
            self._leave()

    def _received(self, item: Item) -> None:
        match item:
            case bytes():
                self._terminal.show(item)
            case Snapshot(vt=vt):
                self._terminal.show(vt.encode())
            case Attached():
                self._ending.attached = item
                self._terminal.raw()
                self._typing = True
                self._resize()  # it may have changed on the way
            case Refused():
                self._ending.refused = item
            case AttachEnded():
                self._ending.said = item
            case _:
                pass  # a newer agent has more to say

    def _draw(self, drawings: list[bytes]) -> None:
        """The proxy has something to say of the connection while nothing comes over it."""
        if self._ending.attached is None:
            for sentence in filter(is_sentence, drawings):
                self._terminal.draw(sentence)
            return
        if self._ending.said is not None:
            return
        for drawing in drawings:
            self._drawn = drawing != CLEAR
            self._terminal.draw(drawing)
        if CLEAR in drawings:
            # Whoever's window changes is sent the whole screen: so is what was under the line.
            rows, cols = self._size
            self._line.send(Resize(rows=rows + 1, cols=cols))
            self._line.send(Resize(rows=rows, cols=cols))

    def _signalled(self, number: int) -> None:
        if number in _STOPS:
            self._leave(number)
        elif number in signals("SIGWINCH"):
            self._resize()
        elif number in signals("SIGCONT") and self._typing:  # the shell had the terminal meanwhile
            self._terminal.raw()

    def _resize(self) -> None:
        size = self._terminal.size()
        if self._ending.attached is not None and size != self._size:
            self._size = size
            self._line.send(Resize(rows=size[0], cols=size[1]))

    def _leave(self, number: int = 0) -> None:
        self._ending.signal = self._ending.signal or number
        if self._leave_by is not None:
            return
        self._typing = False
        self._leave_by = self._clock.now().mono + _DETACHES_S
        if self._ending.attached is not None:
            self._line.send(Detach())
        else:
            self._line.give_up()


@contextmanager
def signals_to_descriptor() -> Iterator[int]:
    """A descriptor from which the numbers of signals can be read, one byte each."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    before: dict[signal.Signals, Any] = {
        number: signal.signal(number, lambda *_: None) for number in _SIGNALS
    }
    woken = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    try:
        yield read
    finally:
        signal.set_wakeup_fd(woken)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(read)
        os.close(write)
