"""Programs on terminals that a test plays itself, and viewers that remember what they were sent."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from typing import Any

from tether.agent.process.process import ExitStatus
from tether.protocol.terminal.messages import (
    AttachEnded,
    Detach,
    FrameReader,
    Init,
    Item,
    Snapshot,
    TerminalMessage,
    frame,
    opening_line,
)


class Program:
    """A `reconnecting_pty.ProgramTerminal` whose program is the test.

    `write` is what the program prints; it dies of SIGHUP unless it is `stubborn`, and of SIGKILL.
    """

    def __init__(self, on_exit: Callable[[ExitStatus], None], *, stubborn: bool = False) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_exit, self._stubborn = on_exit, stubborn
        self.read_fd, self._prints = os.pipe()
        self._reads, self.write_fd = os.pipe()
        for descriptor in (self.read_fd, self.write_fd, self._reads):
            os.set_blocking(descriptor, False)
        self.sizes: list[tuple[int, int]] = []
        self.signals: list[int] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        """The program prints `data`."""
        os.write(self._prints, data)

    def typed(self) -> bytes:
        """What the program would read now."""
        try:
            return os.read(self._reads, 1 << 20)
        except BlockingIOError:
            return b""

    def exit(self, code: int | None = 0, killer: str | None = None) -> None:
        """The program ends, and its end of the terminal is closed."""
        os.close(self._prints)
        self._prints = -1
        self.reaped(ExitStatus(code=code, signal=killer))

    def reaped(self, status: ExitStatus) -> None:
        """The program ends, but somebody keeps its end of the terminal open."""
        self._on_exit(status)

    def resize(self, rows: int, cols: int) -> None:
        self.sizes.append((rows, cols))

    def signal(self, number: int) -> None:
        self.signals.append(number)
        if self._prints >= 0 and (
            number == signal.SIGKILL or (number == signal.SIGHUP and not self._stubborn)
        ):
            self._loop.call_soon(self.exit, None, signal.Signals(number).name.removeprefix("SIG"))

    def close(self) -> None:
        self.closed = True
        for descriptor in (self.read_fd, self.write_fd, self._reads, self._prints):
            if descriptor >= 0:
                os.close(descriptor)
        self._prints = -1


class Programs:
    """A `terminals.Starter`; remembers what it started, and fails with `fails`."""

    def __init__(self, *, stubborn: bool = False) -> None:
        self.started: list[Program] = []
        self.commands: list[str] = []
        self.fails: OSError | None = None
        self._stubborn = stubborn

    def __call__(
        self,
        command: str,
        *,
        size: tuple[int, int],
        connection: Mapping[str, str],
        on_exit: Callable[[ExitStatus], None],
    ) -> Program:
        if self.fails is not None:
            raise self.fails
        self.commands.append(command)
        self.started.append(Program(on_exit, stubborn=self._stubborn))
        return self.started[-1]


class Wire:
    """A `terminal_attach.Carrier` and the client at its other end."""

    def __init__(self) -> None:
        self.attach: Any = None
        """Set by the test: who is told what arrives."""
        self.received: list[Item] = []
        self.exit_code: int | None = None
        self.paused = False
        self.sent = 0
        """Bytes of output so far."""
        self.tail = b""
        """The last of them, or of a picture."""
        self._frames = FrameReader()
        self._changed = asyncio.Event()

    def open(self, **words: Any) -> None:
        """Ask to be attached."""
        self.attach.data_received(opening_line(Init(**{"rows": 24, "cols": 80, **words})))

    def ask(self, message: TerminalMessage) -> None:
        """Send a message first."""
        self.attach.data_received(opening_line(message))

    def send(self, item: Item) -> None:
        self.attach.data_received(frame(item))

    def detach(self) -> None:
        self.send(Detach())

    # -- the carrier --

    def write(self, data: bytes) -> None:
        assert self.exit_code is None, "nothing is written after the close"
        for item in self._frames.feed(data):
            self.received.append(item)
            if isinstance(item, bytes | Snapshot):
                self.sent += len(item) if isinstance(item, bytes) else 0
                more = item if isinstance(item, bytes) else item.vt.encode()
                self.tail = (self.tail + more)[-8192:]
        self._changed.set()

    def close(self, exit_code: int) -> None:
        assert self.exit_code is None, "closed twice"
        self.exit_code = exit_code
        self._changed.set()

    def pause_reading(self) -> None:
        self.paused = True
        self._changed.set()

    def resume_reading(self) -> None:
        self.paused = False
        self._changed.set()

    # -- what the client has seen --

    @property
    def output(self) -> bytes:
        """The program's own bytes, as far as they were sent."""
        return b"".join(item for item in self.received if isinstance(item, bytes))

    @property
    def snapshots(self) -> list[Snapshot]:
        return [item for item in self.received if isinstance(item, Snapshot)]

    @property
    def ended(self) -> AttachEnded | None:
        last = self.received[-1] if self.received else None
        return last if isinstance(last, AttachEnded) else None

    def screen(self) -> bytes:
        """What a terminal that was sent all this has been sent."""
        return b"".join(
            item if isinstance(item, bytes) else item.vt.encode()
            for item in self.received
            if isinstance(item, bytes | Snapshot)
        )

    async def until(self, holds: Callable[[], object]) -> None:
        """Wait until `holds`; it is asked again after everything that arrives."""
        while not holds():
            self._changed.clear()
            await self._changed.wait()

    async def over(self) -> AttachEnded | None:
        """Wait until the carrier is closed."""
        await self.until(lambda: self.exit_code is not None)
        return self.ended
