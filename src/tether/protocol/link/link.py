"""One end of a link (control link or tunnel): a machine that cannot close without a cause.

Law: no I/O and no clock. Messages, stream ends and `Timestamp`s go in; commands and `deadline()` come
out. The machine owns keepalive, goodbye, linger and the close cell; everything else is delivered.

- Leaving: the cause is offered to the cell, the goodbye is sent, and the link lingers until the peer
  has acknowledged it.
- Being left: the peer's goodbye is offered to the cell and acknowledged, and the peer has the time of
  a linger to close first.
- A stream that stops without a goodbye is offered as what it is. `LinkEnded` comes exactly once, last.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from tether.attribution import evidence as ev
from tether.attribution.causes.catalogue import PROTOCOL_ERRORS
from tether.attribution.causes.codes import UNKNOWN
from tether.attribution.disconnect import CloseCell
from tether.attribution.evidence import Evidence
from tether.attribution.standing import has_standing, may_say
from tether.attribution.vocabulary import SILENCE_CODE, Party, Reach, StreamEnd, Vantage
from tether.protocol.messages.base import Message, Unrecognized, facts_of, records_of
from tether.protocol.messages.control import Goodbye, GoodbyeAck, Ping, Pong, Unsupported
from tether.protocol.timestamp import Timestamp
from tether.text import REPLACEMENT, printable

LINGER_S = 3.0
"""How long a goodbye waits for its acknowledgement."""

EXTENSION_S = 1.0
"""By how much the patience is extended at a time while the kernel shows that data is on its way."""

MAX_PATIENCES = 3
"""After so many times its usual patience a silent peer is given up in any case."""

MAX_QUOTED = 64
"""Characters of a peer's word that are quoted in a fact about it."""


class LinkState(Enum):
    """Where a link stands between its two ends."""

    OPEN = auto()
    LEAVING = auto()  # our goodbye is out, its acknowledgement is not in
    LEFT = auto()  # theirs is in and acknowledged; they should close
    CLOSED = auto()


@dataclass(frozen=True, slots=True)
class SendMessage:
    """Put this message on the wire."""

    message: Message


@dataclass(frozen=True, slots=True)
class DeliverMessage:
    """Hand this message to the owner of the link."""

    message: Message


@dataclass(frozen=True, slots=True)
class CloseStream:
    """Close the byte stream below. `code` is a WebSocket close code (RFC 6455 section 7.4)."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class LinkEnded:
    """The link is over; its cell holds why."""


Command = SendMessage | DeliverMessage | CloseStream | LinkEnded


class Link:
    """One end of a link. Perform the commands that its methods return, in order."""

    def __init__(
        self,
        *,
        me: Party,
        peer: Party,
        now: Timestamp,
        ping_every: float | None = None,
        patience: float | None = None,
        linger: float = LINGER_S,
    ) -> None:
        """
        Args:
            me: this end.
            peer: the other end.
            now: when the link opened.
            ping_every: seconds between two pings; None to send none.
            patience: seconds of silence after which the peer is given up; None for never.
            linger: seconds that a goodbye waits for its acknowledgement.
        """
        self.me = me
        self.peer = peer
        self.cell = CloseCell()
        self.state = LinkState.OPEN
        self.rtt_s: float | None = None  # of the last ping that was answered
        self.linger = linger  # of a goodbye that is said from now on
        self.heard_at = now.mono  # when the peer was last heard
        self.reach = Reach.UNKNOWN  # how far the stream below lets us see
        self.proxy = ""  # the address of what is in between
        self._vantage = Vantage(str(me))
        self._ping_every = ping_every
        self._patience = patience
        self._next_ping = now.mono + (ping_every or 0.0)
        self._pinged: tuple[int, float] = (0, now.mono)  # number and time of the last ping
        self._pong_wanted = False  # whether the answer to that ping is to be delivered
        self.goodbye_unheard = False  # whether we said goodbye, and the peer has not answered
        self._linger_until = 0.0
        self._extended_until = 0.0  # the patience is not over before that

    def deadline(self) -> float | None:
        """When (monotonic seconds) to call `tick` next; None for never."""
        match self.state:
            case LinkState.CLOSED:
                return None
            case LinkState.LEAVING | LinkState.LEFT:
                return self._linger_until
            case LinkState.OPEN:
                due = [self._next_ping] if self._ping_every is not None else []
                if (over := self._patience_over_at()) is not None:
                    due.append(over)
                return min(due, default=None)

    def set_liveness(self, *, ping_every: float, patience: float, now: Timestamp) -> None:
        """Adopt the keepalive that the peer asked for (seconds)."""
        self._ping_every = ping_every
        self._patience = patience
        self._next_ping = now.mono + ping_every

    def heard(self, now: Timestamp) -> None:
        """Bytes arrived that are no message (tunnel data): the peer lives."""
        self.heard_at = now.mono

    def ping(self, now: Timestamp) -> list[Command]:
        """Ping now, out of turn. The peer's `Pong` is delivered, and `rtt_s` is then of this ping."""
        if self.state is not LinkState.OPEN:
            return []
        self._pong_wanted = True
        return self._ping(now)

    def receive(self, message: Message, now: Timestamp) -> list[Command]:
        """A message arrived. Perform the commands, then re-arm the timer from `deadline()`."""
        if self.state is LinkState.CLOSED:
            return []
        self.heard_at = now.mono
        match message:
            case Ping(n=n):
                return [SendMessage(Pong(n=n))] if self.state is LinkState.OPEN else []
            case Pong(n=n):
                if n != self._pinged[0]:
                    return []
                self.rtt_s = now.mono - self._pinged[1]
                wanted, self._pong_wanted = self._pong_wanted, False
                return [DeliverMessage(message)] if wanted else []
            case Unrecognized(message_type=name):
                return [SendMessage(Unsupported(message_type=name)), DeliverMessage(message)]
            case Goodbye():
                return self._peer_leaves(message, now)
            case GoodbyeAck():
                self.goodbye_unheard = False
                return self._finish() if self.state is LinkState.LEAVING else []
            case _:
                return [DeliverMessage(message)]

    def leave(
        self,
        cause: str,
        now: Timestamp,
        *,
        because: Evidence | None = None,
        actor: str = "",
        detail: str = "",
        retry_after_s: float = 0.0,
    ) -> list[Command]:
        """Say goodbye. Once the link is ending, only the cell takes notice.

        Args:
            cause: the catalogue code to declare; "" where only a fact is known. One that is not ours to
                declare (a client's word about its peer) is not sent.
            now: the present.
            because: the fact that ends the link; None for no other than that we say this goodbye.
            actor: who is behind it.
            detail: one line for people.
            retry_after_s: when the peer should dial again; negative for never.
        """
        if because is None:
            because = ev.GoodbyeSaid(
                vantage=self._vantage,
                at=now.wall,
                by=self.me,
                cause=cause,
                actor=actor,
                detail=detail,
            )
        self.cell.offer(because)
        if self.state is not LinkState.OPEN:
            return []
        self.state = LinkState.LEAVING
        self.goodbye_unheard = True
        self._linger_until = now.mono + self.linger
        goodbye = Goodbye(
            cause=cause if may_say(self.me, cause) else "",
            actor=actor,
            detail=detail,
            retry_after_s=retry_after_s,
            facts=records_of(f for f in self.cell.facts if _own(f, self._vantage)),
        )
        return [SendMessage(goodbye)]

    def violated(self, what: str, now: Timestamp) -> list[Command]:
        """The peer sent garbage: say so and leave."""
        fact = ev.ProtocolViolated(vantage=self._vantage, at=now.wall, by=self.peer, what=what)
        return self.leave(PROTOCOL_ERRORS[self.peer], now, because=fact, detail=what)

    def cut(self, fact: Evidence, *context: Evidence) -> list[Command]:
        """The stream below is gone because of `fact`; `context` (its counters) is noted before."""
        if self.state is LinkState.CLOSED:
            return []
        for extra in context:
            self.cell.note(extra)
        self.cell.offer(fact)
        return self._finish()

    def patience_over(self, now: Timestamp) -> bool:
        """Whether the next `tick` would give the peer up. The driver notes its counters before."""
        return (
            self.state is LinkState.OPEN
            and (over := self._patience_over_at()) is not None
            and now.mono >= over
        )

    def _patience_over_at(self) -> float | None:
        """The one sum that `deadline` and `tick` go by. Rounded apart (90.1 - 45.1 is less than 45), a
        link whose moment has come would do nothing and ask for the same moment again, for ever."""
        if self._patience is None:
            return None
        return max(self.heard_at + self._patience, self._extended_until)

    def extend_patience(self, now: Timestamp) -> bool:
        """Wait a little longer for a silent peer, because the kernel says that the path loses much and
        that the peer's kernel acknowledges; False if that was done for long enough."""
        if now.mono - self.heard_at >= MAX_PATIENCES * (self._patience or 0.0):
            return False
        self._extended_until = now.mono + EXTENSION_S
        return True

    def tick(self, now: Timestamp) -> list[Command]:
        """Time has passed: ping, give up on a silent peer, or stop lingering."""
        match self.state:
            case LinkState.CLOSED:
                return []
            case LinkState.LEAVING | LinkState.LEFT:
                return self._finish() if now.mono >= self._linger_until else []
            case LinkState.OPEN:
                return self._tick_open(now)

    def _tick_open(self, now: Timestamp) -> list[Command]:
        if self.patience_over(now):
            self.cell.offer(
                ev.StreamEnded(
                    vantage=self._vantage,
                    at=now.wall,
                    peer=self.peer,
                    how=StreamEnd.SILENT,
                    silence_s=now.mono - self.heard_at,
                    reach=self.reach,
                    proxy=self.proxy,
                )
            )
            return self._finish(SILENCE_CODE, "silent for too long")
        if self._ping_every is not None and now.mono >= self._next_ping:
            return self._ping(now)
        return []

    def _ping(self, now: Timestamp) -> list[Command]:
        self._next_ping = now.mono + (self._ping_every or 0.0)
        self._pinged = (self._pinged[0] + 1, now.mono)
        return [SendMessage(Ping(n=self._pinged[0]))]

    def _peer_leaves(self, goodbye: Goodbye, now: Timestamp) -> list[Command]:
        self.goodbye_unheard = False
        theirs = Vantage(str(self.peer))  # nobody may testify for another party
        facts = [fact for fact in facts_of(goodbye.facts) if self._hears(fact, theirs)]
        for fact in facts[:-1] if not goodbye.cause else facts:
            self.cell.note(fact)
        if not may_say(self.peer, goodbye.cause):
            what = f"declared {_quoted(goodbye.cause)}, which is not a {self.peer}'s to declare"
            self.cell.offer(
                ev.ProtocolViolated(vantage=self._vantage, at=now.wall, by=self.peer, what=what)
            )
        elif facts and not goodbye.cause:  # the last fact is the one that made the peer leave
            self.cell.offer(facts[-1])
        else:
            self.cell.offer(
                ev.GoodbyeSaid(
                    vantage=self._vantage,
                    at=now.wall,
                    by=self.peer,
                    cause=goodbye.cause or UNKNOWN,
                    actor=goodbye.actor,
                    detail=goodbye.detail,
                )
            )
        if self.state is LinkState.LEAVING:  # both leave at once: their goodbye acknowledges ours
            return [SendMessage(GoodbyeAck()), *self._finish()]
        if self.state is not LinkState.OPEN:
            return []
        self.state = LinkState.LEFT
        self._linger_until = now.mono + self.linger
        return [SendMessage(GoodbyeAck()), DeliverMessage(goodbye)]

    def _hears(self, fact: Evidence, theirs: Vantage) -> bool:
        return _own(fact, theirs) and has_standing(theirs, fact)

    def _finish(self, code: int = 1000, reason: str = "goodbye") -> list[Command]:
        self.state = LinkState.CLOSED
        return [CloseStream(code, reason), LinkEnded()]


def _own(fact: Evidence, vantage: Vantage) -> bool:
    return fact.vantage is vantage and not isinstance(fact, ev.GoodbyeSaid)


def _quoted(word: str) -> str:
    """A peer's word, cut and cleaned so that it fits into one printable line."""
    return printable(word[:MAX_QUOTED], REPLACEMENT)
