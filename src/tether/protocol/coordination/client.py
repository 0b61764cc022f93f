"""The dialling side of the control plane: one machine for agents and clients.

Law: no I/O, no clock, no randomness (the caller passes the jitter). Facts and moments go in, commands
and `deadline()` come out. Nothing here touches a tunnel: while the control plane is away, peers are lost
and kept. A dial or an opening that fails is no disconnect. A stream that was opened ends once, by its
own cause or by its link's, whichever came first.

How to use it: call `link_up` on each welcomed link and `link_over` at its end, `receive` with each
message of which `is_ours` holds, and `tick` at `deadline()`. Perform the commands that come back, in
order. `update_self` and `sync_destinations` may be called at any time: what is wanted is kept, and sent
again on each stream. To leave, call `leave`, go on until `is_over`, and only then say goodbye on the
link.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias

import msgspec

from tether.attribution import evidence as ev
from tether.attribution.causes.codes import COORDINATION_OVERWRITTEN, UNKNOWN
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import Party, Vantage
from tether.protocol.backoff import USEFUL_AFTER_S, Backoff
from tether.protocol.coordination.peers import KnownPeer, KnownPeers, PeerChanged
from tether.protocol.messages.base import Message
from tether.protocol.messages.control import Unsupported
from tether.protocol.messages.coordination import (
    Coordinate,
    CoordinateClosed,
    CoordinateError,
    CoordinateOpen,
    CoordinateOpened,
    Departure,
    Node,
    PeerUpdate,
    PeerUpdates,
    PeerWord,
    ResumeTokenGrant,
    ResumeTokenRequest,
)
from tether.protocol.timestamp import Timestamp

CLOSE_S = 1.0
"""How long a graceful end waits for the coordinator to hang up."""

OPEN_S = 10.0
"""How long an opening waits for its answer; then this link goes without coordination."""

_ANSWERS = (CoordinateOpened, CoordinateClosed, CoordinateError, PeerUpdates, ResumeTokenGrant)
_ASKS = frozenset({"coordinate_open", "coordinate", "resume_token_request"})


class Phase(Enum):
    """How far it is to a stream, or from one."""

    DIALING = auto()  # no link
    OPENING = auto()  # a link, and no stream (yet)
    COORDINATING = auto()
    CLOSING = auto()  # our disconnect is out, the coordinator has not hung up
    CLOSED = auto()


@dataclass(frozen=True, slots=True)
class SendOnStream:
    """Put this message on the link."""

    message: Message


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """The coordination stream is up; log it."""

    peer_id: str


@dataclass(frozen=True, slots=True)
class OpenFailed:
    """The stream was not opened: no disconnect. `retry_in_s` is None where this link goes without."""

    error: str
    cause: str = ""
    retry_in_s: float | None = None


@dataclass(frozen=True, slots=True)
class CoordinationEnded:
    """The stream that was opened is over. Comes once a stream; judge and log these facts."""

    facts: tuple[Evidence, ...]
    lived_s: float
    by_link: bool = False
    """Whether it ended because its link did."""
    acknowledged: bool | None = None
    """Whether the coordinator hung up in time after our disconnect; None where it ended otherwise."""
    retry_in_s: float | None = None
    """When it is opened again on the same link; None where it is not."""


@dataclass(frozen=True, slots=True)
class Warned:
    """The coordinator could not do one thing; the stream is kept."""

    error: str


Command: TypeAlias = (
    SendOnStream | StreamOpened | OpenFailed | CoordinationEnded | PeerChanged | Warned
)


class CoordinationClient:
    """One party's side of coordination, on one control link after another."""

    def __init__(self, role: Party) -> None:
        """`role` is the agent or the client."""
        self.role = role
        self.phase = Phase.DIALING
        self.peer_id = ""  # in the stream that is open, or was open last
        self._opening = Backoff()
        self._node: Node | None = None  # what we say of ourselves
        self._destinations: dict[str, None] = {}  # whom we want tunnels to
        self._peers = KnownPeers()
        self._said: ev.GoodbyeSaid | None = None  # what we left with
        self._opened_at = 0.0
        self._until: float | None = (
            None  # when the phase is over: no answer, next try, enough waited
        )
        self._asked = False  # whether the opening is out, and its answer is not in
        self._token = ""  # keeps the peer id
        self._token_expires_at = 0.0  # by the wall clock, which sleep does not stop
        self._token_request = 0  # the number of the last request for one
        self._refresh_at: float | None = None  # when to ask for another one

    @property
    def is_over(self) -> bool:
        """Whether `leave` was called and nothing more is to come."""
        return self.phase is Phase.CLOSED

    @property
    def peers(self) -> Mapping[str, KnownPeer]:
        """The tunnel peers that are known, lost ones included."""
        return self._peers.all

    @property
    def destinations(self) -> tuple[str, ...]:
        """The peers to which tunnels are wanted."""
        return tuple(self._destinations)

    @staticmethod
    def is_ours(message: Message) -> bool:
        """Whether `receive` is for this message."""
        if isinstance(message, Unsupported):
            return message.message_type in _ASKS
        return isinstance(message, _ANSWERS)

    def deadline(self) -> float | None:
        """When (monotonic seconds) to call `tick` next; None for never."""
        due = (self._until, self._refresh_at, self._peers.deadline())
        return min((moment for moment in due if moment is not None), default=None)

    # -- the link ------------------------------------------------------------------------------

    def link_up(self, now: Timestamp) -> list[Command]:
        """A link was welcomed: open the stream on it, unless the last rejection says to wait."""
        if self.phase is not Phase.DIALING:
            return []
        self.phase = Phase.OPENING
        if self._until is not None and self._until > now.mono:
            return []
        return self._open(now)

    def link_over(self, facts: tuple[Evidence, ...], now: Timestamp) -> list[Command]:
        """The link ended. The `facts` of its cell are the stream's, too, unless it said its own
        before."""
        commands: list[Command] = []
        if self.phase is Phase.COORDINATING:
            commands = self._stream_over(
                CoordinationEnded(facts, self._age(now), by_link=True), now
            )
            if self._age(now) >= USEFUL_AFTER_S:
                self._opening.lived(self._age(now))
        elif self.phase is Phase.CLOSING:
            commands = self._left(now, acknowledged=False)
        if self._asked:  # no answer came, which is no rejection
            self._asked = False
            self._until = None
        if self.phase is not Phase.CLOSED:
            self.phase = Phase.DIALING
        return commands

    # -- what is wanted ------------------------------------------------------------------------

    def update_self(self, node: Node) -> list[Command]:
        """Say where we are, unless that was said already. The node's `id` is filled in here."""
        before, self._node = self._node, node
        if self.phase is not Phase.COORDINATING:
            return []
        if before is not None and msgspec.structs.replace(before, as_of=node.as_of) == node:
            return []
        return [self._say_node(node)]

    def sync_destinations(self, peer_ids: Iterable[str]) -> list[Command]:
        """Want tunnels to exactly these peers. Only what differs is sent, additions first."""
        wanted = dict.fromkeys(peer_ids)
        added = [peer_id for peer_id in wanted if peer_id not in self._destinations]
        removed = [peer_id for peer_id in self._destinations if peer_id not in wanted]
        self._destinations = wanted
        for peer_id in removed:
            self._peers.forget(peer_id)
        if self.phase is not Phase.COORDINATING:
            return []
        return [
            *(SendOnStream(Coordinate(add_tunnel=peer_id)) for peer_id in added),
            *(SendOnStream(Coordinate(remove_tunnel=peer_id)) for peer_id in removed),
        ]

    def leave(self, said: ev.GoodbyeSaid, now: Timestamp) -> list[Command]:
        """Leave the coordinator for good, with a cause. Without a stream that is done at once."""
        if self.phase is Phase.CLOSING:
            return []
        if self.phase is not Phase.COORDINATING:
            self._close()
            return []
        self.phase = Phase.CLOSING
        self._said = said
        self._until = now.mono + CLOSE_S
        self._refresh_at = None
        departure = Departure(cause=said.cause, actor=said.actor, detail=said.detail)
        return [SendOnStream(Coordinate(disconnect=departure))]

    # -- what arrives --------------------------------------------------------------------------

    def receive(self, message: Message, now: Timestamp, jitter: float) -> list[Command]:
        """A message for this machine arrived (`is_ours`). One of an earlier stream is dropped."""
        coordinating = self.phase is Phase.COORDINATING
        match message:
            case CoordinateOpened(peer_id=peer_id) if self._asked:
                return self._opened(peer_id, now)
            case CoordinateClosed():
                return self._closed(message, now, jitter)
            case PeerUpdates(updates=updates) if coordinating:
                return [command for one in updates for command in self._on_update(one, now)]
            case CoordinateError(error=error) if coordinating:
                return [Warned(error)]
            case ResumeTokenGrant() if coordinating and message.request_id == self._token_request:
                self._token = message.token
                self._token_expires_at = now.wall + message.expires_in_s
                self._refresh_at = now.mono + message.refresh_in_s
            case Unsupported(message_type="coordinate_open") if self._asked:
                return self._go_without("the server is of a version without coordination")
            case _:  # also that tokens are not supported: then there is nothing to refresh
                pass
        return []

    def tick(self, now: Timestamp) -> list[Command]:
        """Time has passed. Re-arm the timer from `deadline()`."""
        commands: list[Command] = []
        if self._until is not None and now.mono >= self._until:
            self._until = None
            commands += self._on_deadline(now)
        if self._refresh_at is not None and now.mono >= self._refresh_at:
            commands += self._ask_for_token()
        return [*commands, *self._peers.tick(now)]

    def _on_deadline(self, now: Timestamp) -> list[Command]:
        if self.phase is Phase.CLOSING:
            return self._left(now, acknowledged=False)
        if self._asked:
            return self._go_without("the server did not answer in time")
        return self._open(now) if self.phase is Phase.OPENING else []

    def _on_update(self, update: PeerUpdate, now: Timestamp) -> list[Command]:
        commands: list[Command] = [*self._peers.receive(update, now)]
        if commands and self.role is Party.AGENT and update.kind == PeerWord.NODE:
            commands.append(SendOnStream(Coordinate(ready_for_handshake=[update.id])))
        return commands

    # -- the stream's life ---------------------------------------------------------------------

    def _open(self, now: Timestamp) -> list[Command]:
        self._asked = True
        self._until = now.mono + OPEN_S
        token = self._token if now.wall < self._token_expires_at else ""
        return [SendOnStream(CoordinateOpen(resume_token=token))]

    def _opened(self, peer_id: str, now: Timestamp) -> list[Command]:
        self.phase = Phase.COORDINATING
        self.peer_id = peer_id
        self._asked = False
        self._opened_at = now.mono
        self._until = None
        return [
            StreamOpened(peer_id),
            *([self._say_node(self._node)] if self._node is not None else []),
            *(SendOnStream(Coordinate(add_tunnel=one)) for one in self._destinations),
            *self._ask_for_token(),
        ]

    def _closed(self, closed: CoordinateClosed, now: Timestamp, jitter: float) -> list[Command]:
        match self.phase:
            case Phase.CLOSING:
                return self._left(now, acknowledged=True)
            case Phase.COORDINATING:
                self.phase = Phase.OPENING
                if closed.cause == COORDINATION_OVERWRITTEN:
                    self._token = ""  # another program has our id: do not take it from one another
                wait_s = self._wait_to_open(self._age(now), now, jitter, closed.retry_after_s)
                fact = ev.GoodbyeSaid(
                    vantage=Vantage(str(self.role)),
                    at=now.wall,
                    by=Party.SERVER,
                    cause=closed.cause or UNKNOWN,
                    actor=closed.actor,
                    detail=closed.detail or closed.error,
                )
                ended = CoordinationEnded((fact,), self._age(now), retry_in_s=wait_s)
                return self._stream_over(ended, now)
            case Phase.OPENING if self._asked:
                self._asked = False
                wait_s = self._wait_to_open(0.0, now, jitter, closed.retry_after_s)
                return [OpenFailed(closed.error, closed.cause, wait_s)]
            case _:
                return []

    def _wait_to_open(self, lived_s: float, now: Timestamp, jitter: float, hint_s: float) -> float:
        self._opening.lived(lived_s)
        wait_s = self._opening.delay(jitter, hint_s)
        self._until = now.mono + wait_s
        return wait_s

    def _go_without(self, error: str) -> list[Command]:
        """This link has no coordination; the next one may."""
        self._asked = False
        self._until = None
        return [OpenFailed(error)]

    def _stream_over(self, ended: CoordinationEnded, now: Timestamp) -> list[Command]:
        self._refresh_at = None
        return [ended, *self._peers.lose_all(now)]

    def _left(self, now: Timestamp, *, acknowledged: bool) -> list[Command]:
        assert self._said is not None, "leave() keeps it"
        self._close()
        return [CoordinationEnded((self._said,), self._age(now), acknowledged=acknowledged)]

    def _close(self) -> None:
        self.phase = Phase.CLOSED
        self._asked = False
        self._until = None
        self._refresh_at = None

    def _age(self, now: Timestamp) -> float:
        return now.mono - self._opened_at

    def _say_node(self, node: Node) -> Command:
        return SendOnStream(Coordinate(update_self=msgspec.structs.replace(node, id=self.peer_id)))

    def _ask_for_token(self) -> list[Command]:
        self._token_request += 1
        self._refresh_at = None
        return [SendOnStream(ResumeTokenRequest(request_id=self._token_request))]
