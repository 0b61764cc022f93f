"""One attach over one transport: joins the machine of `protocol.terminal.attach` to a terminal.

Law: the transport's callbacks come in, frames go out; nothing waits. Every attach that was begun ends
exactly once, in `on_end`, with its cell. The transport is an SSH channel or an encrypted tunnel.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from tether.agent.process.process import ExitStatus
from tether.agent.terminal.pty import ReconnectingPty
from tether.agent.terminal.terminals import TerminalError, Terminals
from tether.attribution import evidence as ev
from tether.attribution.causes.codes import SESSION_REFUSED
from tether.attribution.disconnect import CloseCell, Disconnect
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import Party, Vantage
from tether.log import disconnected, get_logger
from tether.net.clock import Clock
from tether.protocol.terminal.attach import (
    AnswerRequest,
    AttachServer,
    AttachState,
    Close,
    Command,
    Open,
    SendToClient,
    SetSize,
    Type,
    agent_goodbye,
)
from tether.protocol.terminal.messages import (
    Attached,
    Done,
    Init,
    Kill,
    List,
    Listing,
    Refused,
    Rename,
    TerminalMessage,
    frame,
)

_EXHAUSTED = ("too_many_terminals", "too_many_viewers", "not_started")


class AttachTransport(Protocol):
    """What an attach runs over."""

    def write(self, data: bytes) -> None:
        """Send bytes, in order. Never waits; calls `pause_writing` when it is behind."""

    def close(self, exit_code: int) -> None:
        """Everything has been written: close, with an exit code where the transport has them."""

    def pause_reading(self) -> None:
        """Deliver nothing for now."""

    def resume_reading(self) -> None:
        """Deliver again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachEnd:
    """One attach that is over."""

    terminal_id: str
    """"" where it never had one."""
    cell: CloseCell
    disconnect: Disconnect
    """What `cell` comes to."""
    status: ExitStatus | None
    """Of the terminal's process, where that has ended."""
    terminal_lives: bool
    """Whether attaching again would show the same terminal."""


class TerminalAttach:
    """One attach. The transport calls `data_received` … `resume_writing`; the owner calls `end`."""

    def __init__(
        self,
        transport: AttachTransport,
        terminals: Terminals,
        *,
        user: str,
        clock: Clock,
        environment: Mapping[str, str] | None = None,
        workspace: str = "",
        attach_id: str = "",
        on_end: Callable[[AttachEnd], None] = lambda end: None,
    ) -> None:
        """`environment` is what a new terminal's program may know of the connection; `attach_id` names
        the attach in log lines: its end is not the end of a connection."""
        self.user = user
        self.environment = environment or {}
        self._transport = transport
        self._terminals = terminals
        self._clock = clock
        self._on_end = on_end
        self._log = get_logger("agent.attach", attach_id=attach_id, user=user)
        self._loop = asyncio.get_running_loop()
        self._started = clock.now()
        self._machine = AttachServer(self._started, workspace=workspace)
        self._pty: ReconnectingPty | None = None  # None before it is attached, and after its end
        self._terminal_id = ""
        self._status: ExitStatus | None = None  # of the terminal's process, once that has ended
        self._timer: asyncio.TimerHandle | None = None  # rings at the machine's deadline
        self._blocked = False  # the transport takes no more for now
        self._arm()

    @property
    def cell(self) -> CloseCell:
        """What is known about the end of this attach."""
        return self._machine.cell

    # -- what the transport says ----------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """The client sent bytes."""
        self._perform(self._machine.receive(data, self._clock.now()))

    def closed_by_client(self) -> None:
        """The client closed its channel, on a connection that lives on."""
        self._perform(self._machine.closed_by_client(self._clock.now()))

    def lost(self, *facts: Evidence) -> None:
        """The connection below has ended, because of the last of `facts`."""
        if self._machine.state is not AttachState.CLOSED:
            self._perform(self._machine.lost(*facts))

    def pause_writing(self) -> None:
        """The transport takes no more for now."""
        self._blocked = True
        if self._pty is not None:
            self._pty.block(self)

    def resume_writing(self) -> None:
        """The transport takes more."""
        self._blocked = False
        if self._pty is not None:
            self._pty.unblock(self)

    def end(self, fact: Evidence) -> None:
        """End the attach because of `fact`: the terminal lives on."""
        self._perform(self._machine.end(fact, terminal_lives=self._pty is not None))

    # -- what the terminal says: see `pty.TerminalClient` -----------------------------------

    def send(self, item: TerminalMessage | bytes) -> None:
        """Send a message, or output."""
        if self._machine.state is AttachState.OPEN:
            self._transport.write(frame(item))

    def pause(self, paused: bool) -> None:
        """The program does not read what is typed, or it does again."""
        if paused:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def terminal_over(self, terminal: ReconnectingPty) -> None:
        """The terminal has ended: because of its process, or of what its cell says."""
        self._pty = None
        self._status = status = terminal.status
        now, machine = self._clock.now(), self._machine
        if status is not None:
            machine.cell.note(
                ev.SessionEnded(
                    vantage=Vantage.AGENT,
                    at=now.wall,
                    exit_code=status.code,
                    exit_signal=status.signal,
                    open_sessions=0,
                )
            )
        self._perform(machine.end(terminal.cell.facts[-1]))

    # -- doing it -------------------------------------------------------------------------

    def _perform(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case Open(init=init):
                    self._open(init)
                case AnswerRequest(request=request, alone=alone):
                    self._answer(request, alone=alone)
                case Type(data=data):
                    if self._pty is not None:
                        self._pty.type(self, data)
                case SetSize(rows=rows, cols=cols):
                    if self._pty is not None:
                        self._pty.resize(self, rows, cols)
                case SendToClient(frame=data):
                    self._transport.write(data)
                case Close():
                    self._close()
        self._arm()

    def _open(self, init: Init) -> None:
        try:
            pty, created = self._terminals.attach(self, init)
        except TerminalError as refusal:
            self._refuse(refusal)
            return
        self._pty = pty
        self._terminal_id = pty.id
        self._machine.attached = True
        rows, cols = pty.size
        self.send(
            Attached(
                id=pty.id,
                name=pty.name,
                created=created,
                rows=rows,
                cols=cols,
                idle_s=self._terminals.settings.idle_s,
            )
        )
        if self._blocked:
            pty.block(self)
        self._log.info("terminal attached", terminal_id=pty.id, created=created)

    def _refuse(self, refusal: TerminalError) -> None:
        now, detail = self._clock.now(), str(refusal)
        self.send(Refused(code=refusal.code, message=detail))
        if refusal.code in _EXHAUSTED:
            fact: Evidence = agent_goodbye(SESSION_REFUSED, now, detail=detail)
        elif refusal.code == "agent_leaving" and self._terminals.leaving is not None:
            fact = self._terminals.leaving
        else:
            fact = ev.ProtocolViolated(
                vantage=Vantage.AGENT, at=now.wall, by=Party.CLIENT, what=detail
            )
        self._perform(self._machine.end(fact))

    def _answer(self, request: List | Rename | Kill, *, alone: bool) -> None:
        try:
            match request:
                case List():
                    answer: TerminalMessage = Listing(terminals=self._terminals.listing())
                case Rename(id=pty_id, name=name):
                    self._terminals.rename(pty_id, name)
                    answer = Done(id=pty_id)
                case Kill(id=pty_id):
                    self._terminals.kill(pty_id, self.user)
                    answer = Done(id=pty_id)
        except TerminalError as refusal:
            answer = Refused(code=refusal.code, message=str(refusal))
        self.send(answer)
        if alone:
            self._perform(self._machine.finish(self._clock.now()))

    def _close(self) -> None:
        lives = self._pty is not None
        if self._pty is not None:
            pty, self._pty = self._pty, None
            pty.leave(self)
        end = self._machine.verdict().disconnect
        code = end.exit_code
        self._transport.close(code if code is not None else 0 if end.expected else 1)
        self._terminals.detached(end)
        disconnected(
            self._log,
            "terminal attach closed",
            end,
            terminal_id=self._terminal_id,
            duration_s=round(self._clock.now().mono - self._started.mono, 3),
        )
        self._on_end(
            AttachEnd(
                terminal_id=self._terminal_id,
                cell=self._machine.cell,
                disconnect=end,
                status=self._status,
                terminal_lives=lives,
            )
        )

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self._machine.deadline()
        if deadline is not None:
            wait = max(0.0, deadline - self._clock.now().mono)
            self._timer = self._loop.call_later(wait, self._tick)

    def _tick(self) -> None:
        self._perform(self._machine.tick(self._clock.now()))
