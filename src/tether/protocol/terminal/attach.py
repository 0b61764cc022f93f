"""One attach, seen by the agent: a machine from the client's bytes to what shall be done, and its end.

Law: no I/O and no clock. An attach ends exactly once, and always with a cause in its cell, which is
offered before anything is closed. The client is told that cause in words, if it still can be told
anything. Nothing here knows terminals; the machine only says what the client wants of one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

import msgspec

from tether.attribution import evidence as ev
from tether.attribution.causes.codes import (
    CLIENT_CLOSED,
    SESSION_DETACHED,
    SESSION_EXIT,
    SESSION_SIGNAL,
)
from tether.attribution.classify import Verdict, classify
from tether.attribution.disconnect import CloseCell
from tether.attribution.evidence import Evidence
from tether.attribution.explain import explain
from tether.attribution.vocabulary import ConnectType, Party, Vantage
from tether.protocol.messages.base import Garbage
from tether.protocol.terminal.messages import (
    MAX_SIDE,
    AttachEnded,
    Detach,
    FrameReader,
    Init,
    Item,
    Kill,
    List,
    OpeningReader,
    Rename,
    Resize,
    TerminalMessage,
    Unrecognized,
    frame,
)
from tether.protocol.timestamp import Timestamp

OPENING_TIMEOUT_S = 30.0
"""How long a client may take to say what it wants."""

Request = List | Rename | Kill


class AttachState(Enum):
    """How far an attach has come."""

    OPENING = auto()  # the client has not said what it wants
    OPEN = auto()
    CLOSED = auto()


@dataclass(frozen=True, slots=True)
class Open:
    """The client wants to be attached; sizes are within bounds. Answer with `Attached` or `end`."""

    init: Init


@dataclass(frozen=True, slots=True)
class AnswerRequest:
    """The client wants this done, or to know it."""

    request: Request
    alone: bool
    """Whether it wants nothing else: call `finish` after the answer."""


@dataclass(frozen=True, slots=True)
class Type:
    """The client typed this."""

    data: bytes


@dataclass(frozen=True, slots=True)
class SetSize:
    """The client's window has this size now."""

    rows: int
    cols: int


@dataclass(frozen=True, slots=True)
class SendToClient:
    """Put this frame on the carrier."""

    frame: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """The attach is over; its cell holds why. Close the carrier once everything has been sent."""


Command = Open | AnswerRequest | Type | SetSize | SendToClient | Close


class AttachServer:
    """The agent's end. Call `receive` with what arrives, and `tick` at `deadline()`."""

    def __init__(
        self, now: Timestamp, *, workspace: str = "", timeout: float = OPENING_TIMEOUT_S
    ) -> None:
        self.cell = CloseCell()
        self.state = AttachState.OPENING
        self.attached = False  # set by the owner once the client sees a terminal
        self._workspace = workspace  # named in the sentence of the end
        self._timeout = timeout
        self._open_until = now.mono + timeout
        self._opening: OpeningReader | None = OpeningReader()  # until the first message is read
        self._frames = FrameReader()

    def deadline(self) -> float | None:
        """When (monotonic seconds) to call `tick`; None for never."""
        return self._open_until if self.state is AttachState.OPENING else None

    def tick(self, now: Timestamp) -> list[Command]:
        """Time has passed. A client that has not said what it wants is given up."""
        if self.state is not AttachState.OPENING or now.mono < self._open_until:
            return []
        return self.end(
            ev.HandshakeTimedOut(
                vantage=Vantage.AGENT, at=now.wall, by=Party.CLIENT, after_s=self._timeout
            )
        )

    def receive(self, data: bytes, now: Timestamp) -> list[Command]:
        """Bytes arrived. Perform the commands in order."""
        commands: list[Command] = []
        if self.state is AttachState.CLOSED:
            return commands
        try:
            if self._opening is not None:
                opened = self._opening.feed(data)
                if opened is None:
                    return commands
                message, data = opened
                self._opening = None
                commands += self._opened(message)
            for item in self._frames.feed(data):
                commands += self._item(item, now)
                if self.cell.ended:
                    break
        except Garbage as garbage:
            commands += self._violated(str(garbage), now)
        return commands

    def closed_by_client(self, now: Timestamp) -> list[Command]:
        """The client closed its channel without a `Detach`, and its connection lives on."""
        return self.end(_client_goodbye(CLIENT_CLOSED, now))

    def lost(self, *facts: Evidence) -> list[Command]:
        """The connection below has ended; the last of `facts` is what ended it."""
        for fact in facts[:-1]:
            self.cell.note(fact)
        self.cell.offer(facts[-1])
        self.state = AttachState.CLOSED
        return [Close()]

    def finish(self, now: Timestamp) -> list[Command]:
        """The only request of a client that wants nothing else is answered."""
        return self.exited(now, exit_code=0, exit_signal=None)

    def exited(
        self, now: Timestamp, *, exit_code: int | None, exit_signal: str | None
    ) -> list[Command]:
        """The terminal's process has ended and all of its output has been sent."""
        self.cell.note(
            ev.SessionEnded(
                vantage=Vantage.AGENT,
                at=now.wall,
                exit_code=exit_code,
                exit_signal=exit_signal,
                open_sessions=0,
            )
        )
        cause = SESSION_EXIT if exit_signal is None else SESSION_SIGNAL
        return self.end(agent_goodbye(cause, now))

    def end(self, fact: Evidence, *, terminal_lives: bool = False) -> list[Command]:
        """End the attach because of `fact`. Once it has ended, only the cell takes notice."""
        self.cell.offer(fact)
        if self.state is AttachState.CLOSED:
            return []
        self.state = AttachState.CLOSED
        disconnect = self.verdict().disconnect
        ended = AttachEnded(
            cause=disconnect.cause,
            sentence=explain(disconnect, self._workspace).sentence,
            actor=disconnect.actor,
            detail=disconnect.detail,
            exit_code=disconnect.exit_code,
            exit_signal=disconnect.exit_signal,
            terminal_lives=terminal_lives,
        )
        return [SendToClient(frame(ended)), Close()]

    def verdict(self) -> Verdict:
        """The judgement of what is in the cell."""
        return classify(ConnectType.AGENT_TO_CLIENT, self.cell.facts)

    def _opened(self, message: TerminalMessage) -> list[Command]:
        match message:
            case Init(rows=rows, cols=cols):
                if rows < 1 or cols < 1:
                    raise Garbage(f"a terminal of {rows} rows and {cols} columns")
                self.state = AttachState.OPEN
                bounded = {"rows": min(rows, MAX_SIDE), "cols": min(cols, MAX_SIDE)}
                return [Open(msgspec.structs.replace(message, **bounded))]
            case List() | Rename() | Kill():
                self.state = AttachState.OPEN
                return [AnswerRequest(message, alone=True)]
            case _:
                raise Garbage("the first message does not say what to attach to")

    def _item(self, item: Item, now: Timestamp) -> list[Command]:
        match item:
            case bytes():
                return [Type(item)] if item else []
            case Resize(rows=rows, cols=cols):
                if rows < 1 or cols < 1:  # a window that is being closed or hidden says 0
                    return []
                return [SetSize(min(rows, MAX_SIDE), min(cols, MAX_SIDE))]
            case Detach():
                return self.end(
                    _client_goodbye(SESSION_DETACHED, now), terminal_lives=self.attached
                )
            case List() | Rename() | Kill():
                return [AnswerRequest(item, alone=False)]
            case Unrecognized():
                return []
            case _:
                raise Garbage(f"a client does not send {type(item).__name__}")

    def _violated(self, what: str, now: Timestamp) -> list[Command]:
        fact = ev.ProtocolViolated(vantage=Vantage.AGENT, at=now.wall, by=Party.CLIENT, what=what)
        return self.end(fact, terminal_lives=self.attached)


def agent_goodbye(
    cause: str, now: Timestamp, *, actor: str = "", detail: str = ""
) -> ev.GoodbyeSaid:
    """The fact that the agent ends something, with a declared cause."""
    return ev.GoodbyeSaid(
        vantage=Vantage.AGENT,
        at=now.wall,
        by=Party.AGENT,
        cause=cause,
        actor=actor,
        detail=detail,
    )


def _client_goodbye(cause: str, now: Timestamp) -> ev.GoodbyeSaid:
    return ev.GoodbyeSaid(vantage=Vantage.AGENT, at=now.wall, by=Party.CLIENT, cause=cause)
