"""A terminal that outlives its clients: one process, one screen, any number of viewers.

Law: whoever ends the terminal offers the cause to its cell first. The attach of every viewer ends
exactly once, with a cause of its own. Nothing waits for a viewer; the program waits only for the screen
host, as it would for a slow terminal. All waiting is deadlines of machines, driven by one timer.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from tether.agent.process.process import ExitStatus
from tether.agent.screen.client import EmulatedScreen, Screens, Shown
from tether.agent.terminal.output_cutter import OutputCutter
from tether.agent.terminal.viewers import Idle, SizePolicy, Viewer, agreed_size
from tether.attribution.causes.codes import SESSION_EXIT, SESSION_IDLE_EXPIRED, SESSION_SIGNAL
from tether.attribution.disconnect import CloseCell
from tether.attribution.evidence import Evidence
from tether.log import get_logger
from tether.net.clock import Clock
from tether.net.fd_io import FdWriter
from tether.net.tasks import Tasks
from tether.protocol.terminal.attach import agent_goodbye
from tether.protocol.terminal.messages import Info, Snapshot, TerminalMessage

READ_BATCH = 64 << 10
"""Bytes that are read from the terminal in one turn of the loop."""

INPUT_MAX = 1 << 20
"""Bytes that wait for the program above which its viewers are asked to pause."""

TAIL_MAX = 64 << 10
"""Bytes of raw output that are kept where there is no emulator."""

KILL_AFTER_S = 5.0
"""How long after the hang-up a process that is still there is killed."""

NUDGE_S = 0.1
"""How long a program sees another size, so that it draws everything again. Two changes at once would
be one signal, after which nothing has changed."""

DRAIN_S = 1.0
"""How long after the process's end its terminal may take to end, too: others may have it open."""


class ProgramTerminal(Protocol):
    """A program that runs on its terminal. The descriptors do not block; `close` closes them."""

    @property
    def read_fd(self) -> int: ...
    @property
    def write_fd(self) -> int: ...

    def resize(self, rows: int, cols: int) -> None:
        """Tell the terminal its size; the kernel tells the program."""

    def signal(self, number: int) -> None:
        """Signal the program's whole group."""

    def close(self) -> None:
        """Give the terminal back."""


class TerminalClient(Protocol):
    """A viewer's attach, as the terminal sees it. Nothing here may raise or wait."""

    @property
    def user(self) -> str: ...
    @property
    def environment(self) -> Mapping[str, str]:
        """What the program of a terminal that it opens may know of the connection."""

    def send(self, item: TerminalMessage | bytes) -> None:
        """Send a message, or output."""

    def terminal_over(self, terminal: ReconnectingPty) -> None:
        """The terminal has ended; its cell says why, its status how. Comes once."""

    def pause(self, paused: bool) -> None:
        """Take no input from it for now, or take it again."""


class TerminalState(Enum):
    RUNNING = auto()
    ENDING = auto()  # hung up
    EXITED = auto()  # the process is reaped; its last output is still coming
    OVER = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class PtySettings:
    """What an agent's operator may choose."""

    idle_s: float | None = 86_400.0
    """A terminal without a viewer is ended after so many seconds; None for never."""
    max_terminals: int = 64
    max_viewers: int = 16


class ReconnectingPty:
    """One terminal. Its program runs once this is constructed; `on_over` is called once, last."""

    def __init__(
        self,
        *,
        pty_id: str,
        name: str,
        command: str,
        size: tuple[int, int],
        policy: SizePolicy,
        start: Callable[[Callable[[ExitStatus], None]], ProgramTerminal],
        screens: Screens,
        clock: Clock,
        idle_s: float | None,
        on_over: Callable[[ReconnectingPty], None],
    ) -> None:
        """Raises:
        OSError: the program could not be started; there is nothing to end.
        """
        self.id = pty_id
        self.name = name
        self.command = command
        self.cell = CloseCell()
        self.state = TerminalState.RUNNING
        self.status: ExitStatus | None = None  # set once the process has been reaped
        self.created = clock.now()
        self.size = size  # rows and columns
        self._policy = policy
        self._clock = clock
        self._on_over = on_over
        self._loop = asyncio.get_running_loop()
        self._log = get_logger("agent.terminal", terminal_id=pty_id)
        self._tasks = Tasks(f"terminal-{pty_id}")
        self._idle = Idle(self.created.mono, idle_s)
        self._viewers: dict[TerminalClient, Viewer] = {}
        self._asked_one: TerminalClient | None = None  # the viewer that answers questions
        self._last_size = size  # of the window that came or changed last
        self._cutter = OutputCutter()
        self._tail = bytearray()  # the last output, while there is no emulator
        self._output_over = False  # nobody has the program's end open any more
        self._act_at: float | None = None  # when to kill, or to stop waiting for output
        self._resize_at: float | None = None  # when the size is right again after a nudge
        self._timer: asyncio.TimerHandle | None = None  # rings at the earliest deadline
        self._reading = False  # the loop watches the program's output
        self._program = start(self._exited)
        self._program.resize(*size)
        self._input = FdWriter(
            self._program.write_fd,
            owned=False,
            most=INPUT_MAX,
            on_full=lambda: self._pause(True),
            on_room=lambda: self._pause(False),
        )
        self._screen: EmulatedScreen = screens.open(self, rows=size[0], cols=size[1])
        self._read_on()
        self._arm()

    # -- viewers --------------------------------------------------------------------------

    def info(self) -> Info:
        """Its entry in a list."""
        waits_until = self._idle.deadline()
        return Info(
            id=self.id,
            name=self.name,
            command=self.command,
            rows=self.size[0],
            cols=self.size[1],
            viewers=[client.user for client in self._viewers],
            created_at=self.created.wall,
            expires_in_s=None if waits_until is None else waits_until - self._clock.now().mono,
        )

    @property
    def viewers(self) -> int:
        """How many viewers it has."""
        return len(self._viewers)

    def attach(self, client: TerminalClient, *, rows: int, cols: int, history: int) -> None:
        """Let `client` see the terminal; the first picture follows."""
        now = self._clock.now().mono
        self._viewers[client] = Viewer(
            rows=rows, cols=cols, screen=self.size, history=history, now=now
        )
        self._asked_one = self._asked_one or client
        self._last_size = (rows, cols)
        self._idle.watched()
        self._agree()

    def leave(self, client: TerminalClient) -> None:
        """`client` is gone, or about to go. Its attach knows why."""
        if self._viewers.pop(client, None) is None:
            return
        if self._asked_one is client:
            self._asked_one = next(iter(self._viewers), None)
        if not self._viewers:
            self._idle.unwatched(self._clock.now().mono)
        self._agree()

    def resize(self, client: TerminalClient, rows: int, cols: int) -> None:
        """`client`'s window has another size."""
        self._viewers[client].resize(rows=rows, cols=cols)
        self._last_size = (rows, cols)
        self._agree()

    def type(self, client: TerminalClient, data: bytes) -> None:
        """`client` typed this."""
        self._asked_one = client
        self._input.write(data)

    def block(self, client: TerminalClient) -> None:
        """`client`'s transport takes no more for now."""
        self._viewers[client].block()

    def unblock(self, client: TerminalClient) -> None:
        """`client`'s transport takes more."""
        if data := self._viewers[client].unblock():
            client.send(data)
        self._arm()

    # -- the end --------------------------------------------------------------------------

    def end(self, fact: Evidence) -> None:
        """End the program because of `fact`: hang up, and kill what does not go."""
        self.cell.offer(fact)
        if self.state is TerminalState.RUNNING:
            self.state = TerminalState.ENDING
            self._act_at = self._clock.now().mono + KILL_AFTER_S
            self._program.signal(signal.SIGHUP)
            self._program.signal(signal.SIGCONT)  # a stopped program would not see it
            self._arm()

    def abandon(self, fact: Evidence) -> None:
        """The agent leaves: tell every viewer because of `fact`, now, and end the program."""
        self.end(fact)
        self._tell_viewers()

    def _exited(self, status: ExitStatus) -> None:
        now = self._clock.now()
        self.status = status
        if not self.cell.ended:
            cause = SESSION_EXIT if status.signal is None else SESSION_SIGNAL
            self.cell.offer(agent_goodbye(cause, now))
        self.state = TerminalState.EXITED
        self._act_at = now.mono + DRAIN_S
        self._input.close()
        if self._output_over:
            self._finish()
        self._arm()

    def _finish(self) -> None:
        """Process and output have ended."""
        self.state = TerminalState.OVER
        self._read_off()
        rest = self._cutter.rest()
        self._publish(rest.raw, rest.everybody, rest.one)
        self._program.close()
        self._arm()
        self._tasks.spawn(self._farewell(), "farewell")

    async def _farewell(self) -> None:
        """Viewers that wait for a picture get the last one; then all are told of the end."""
        late = [(client, viewer) for client, viewer in self._viewers.items() if not viewer.live]
        await asyncio.gather(*(self._picture(client, viewer) for client, viewer in late))
        self._screen.close()
        self._tell_viewers()
        self._on_over(self)

    def _tell_viewers(self) -> None:
        for client in list(self._viewers):
            del self._viewers[client]
            client.terminal_over(self)

    # -- output ---------------------------------------------------------------------------

    def _read_on(self) -> None:
        if not self._reading and not self._output_over and self.state is not TerminalState.OVER:
            self._reading = True
            self._loop.add_reader(self._program.read_fd, self._read)

    def _read_off(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._program.read_fd)

    def _read(self) -> None:
        parts: list[bytes] = []
        size, over = 0, False
        while size < READ_BATCH:
            try:
                data = os.read(self._program.read_fd, READ_BATCH)
            except BlockingIOError:
                break
            except OSError:  # EIO: nobody has the program's end open any more
                data = b""
            if not data:
                over = True
                break
            parts.append(data)
            size += len(data)
        if parts:
            output = self._cutter.feed(b"".join(parts))
            self._publish(output.raw, output.everybody, output.one)
        if over:
            self._output_over = True
            self._read_off()
            if self.state is TerminalState.EXITED:
                self._finish()
        elif self._screen.crowded:
            self._read_off()
        self._arm()

    def _publish(self, raw: bytes, everybody: bytes, one: bytes) -> None:
        if not raw:
            return
        self._screen.feed(raw)
        if not self._screen.usable:
            everybody = one = raw  # only the viewers can answer
            self._tail += raw
            del self._tail[:-TAIL_MAX]
        for client, viewer in self._viewers.items():
            if data := viewer.output(one if client is self._asked_one else everybody):
                client.send(data)

    # -- pictures -------------------------------------------------------------------------

    async def _picture(self, client: TerminalClient, viewer: Viewer) -> None:
        """Ask what the screen shows, and send it if the viewer is still there."""
        window = {} if viewer.exact else {"rows": viewer.rows, "cols": viewer.cols}
        rows, cols = self.size
        shown = await self._screen.show(history=viewer.history, **window)
        if self._viewers.get(client) is not viewer:
            return
        client.send(self._snapshot(shown, rows, cols))
        if data := viewer.shown(pictured=shown is not None):
            client.send(data)
        self._arm()

    def _snapshot(self, shown: Shown | None, rows: int, cols: int) -> Snapshot:
        if shown is None:
            vt = b"\x1b[!p\x1b[H\x1b[2J" + bytes(self._tail)
            return Snapshot(rows=rows, cols=cols, vt=vt.decode("utf-8", "replace"), exact=False)
        return Snapshot(
            rows=rows, cols=cols, vt=shown.vt.decode("utf-8", "replace"), title=shown.title
        )

    def _agree(self) -> None:
        """Take the size that the windows of the viewers ask for."""
        windows = ((viewer.rows, viewer.cols) for viewer in self._viewers.values())
        size = agreed_size(self._policy, windows, self._last_size if self._viewers else self.size)
        if size != self.size:
            self.size = size
            self._program.resize(*size)
            self._screen.resize(*size)
            for viewer in self._viewers.values():
                viewer.screen_resized(size)
        self._arm()

    # -- what the screen says (ScreenOwner) ----------------------------------------------------

    def screen_answers(self, data: bytes) -> None:
        """See `ScreenOwner`."""
        self._input.write(data)

    def screen_lost(self) -> None:
        """See `ScreenOwner`. A change of size makes programs draw everything again."""
        if self.state is TerminalState.RUNNING:
            rows, cols = self.size
            self._program.resize(rows + 1, cols)
            self._resize_at = self._clock.now().mono + NUDGE_S
            self._arm()

    def screen_has_room(self) -> None:
        """See `ScreenOwner`."""
        self._read_on()

    def _pause(self, paused: bool) -> None:
        for client in self._viewers:
            client.pause(paused)

    # -- time -----------------------------------------------------------------------------

    def _arm(self) -> None:
        """Set the one timer to the earliest deadline."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.state is TerminalState.OVER:
            return
        deadlines = [viewer.deadline() for viewer in self._viewers.values()]
        deadlines += [
            self._act_at,
            self._resize_at,
            self._idle.deadline() if self.state is TerminalState.RUNNING else None,
        ]
        due = [deadline for deadline in deadlines if deadline is not None]
        if due:
            wait = max(0.0, min(due) - self._clock.now().mono)
            self._timer = self._loop.call_later(wait, self._tick)

    def _tick(self) -> None:
        now = self._clock.now()
        for client, viewer in self._viewers.items():
            deadline = viewer.deadline()
            if deadline is not None and now.mono >= deadline:
                viewer.asked(now.mono)
                self._tasks.spawn(self._picture(client, viewer), "picture")
        if self._resize_at is not None and now.mono >= self._resize_at:
            self._resize_at = None
            self._program.resize(*self.size)
        if self.state is TerminalState.RUNNING and self._idle.expired(now.mono):
            self.end(agent_goodbye(SESSION_IDLE_EXPIRED, now, actor="policy:terminal-idle"))
        elif self._act_at is not None and now.mono >= self._act_at:
            self._act_at = None
            self._overdue()
        self._arm()

    def _overdue(self) -> None:
        if self.state is TerminalState.ENDING:
            self._program.signal(signal.SIGKILL)
        elif self.state is TerminalState.EXITED and self._screen.crowded:  # we do not read
            self._act_at = self._clock.now().mono + DRAIN_S
        elif self.state is TerminalState.EXITED:
            self._finish()
