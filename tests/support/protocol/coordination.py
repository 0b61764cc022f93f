"""One coordinator and any number of controllers, joined in memory, under a clock that the test moves.

Law: the product's machines only. A message is delivered when the test says `settle`, in order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tests.support.clock import at
from tether.attribution import evidence as ev
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import Party, StreamEnd, Vantage
from tether.protocol.coordination.access import Access, AgentAccess, ClientAccess
from tether.protocol.coordination.client import Command, CoordinationClient, SendOnStream
from tether.protocol.coordination.coordinator import Coordinator, PeerStream
from tether.protocol.coordination.resume_token import EXPIRES_S, REFRESH_S, mint, read
from tether.protocol.messages.base import Message
from tether.protocol.messages.control import Unsupported
from tether.protocol.messages.coordination import (
    Coordinate,
    CoordinateOpen,
    CoordinateOpened,
    Node,
    PeerUpdate,
    PeerUpdates,
    ResumeTokenGrant,
    ResumeTokenRequest,
)

KEY = b"k" * 32
T = TypeVar("T")

LINK_LOST: tuple[Evidence, ...] = (
    ev.StreamEnded(vantage=Vantage.AGENT, at=9.0, peer=Party.SERVER, how=StreamEnd.EOF),
)


def node(peer_id: str = "", *endpoints: str, as_of: float = 1.0) -> Node:
    return Node(id=peer_id, as_of=as_of, endpoints=list(endpoints))


def said(party: Party, cause: str, actor: str = "") -> ev.GoodbyeSaid:
    return ev.GoodbyeSaid(vantage=Vantage(str(party)), at=1.0, by=party, cause=cause, actor=actor)


def drain(stream: PeerStream) -> list[Message]:
    """Everything that waits for a peer."""
    messages = []
    while (message := stream.take()) is not None:
        messages.append(message)
    return messages


def updates(stream: PeerStream) -> list[PeerUpdate]:
    """What waits for a peer, which must be updates."""
    found: list[PeerUpdate] = []
    for message in drain(stream):
        assert isinstance(message, PeerUpdates), message
        found += message.updates
    return found


class Plane:
    """See the module's law."""

    def __init__(self) -> None:
        self.coordinator = Coordinator()
        self.sides: list[Side] = []
        self.now = 0.0

    def agent(self, peer_id: str = "ws") -> Side:
        return Side(self, Party.AGENT, peer_id, AgentAccess())

    def client(
        self, peer_id: str = "c", may_reach: Callable[[str], bool] = lambda peer_id: True
    ) -> Side:
        return Side(self, Party.CLIENT, peer_id, ClientAccess(may_reach))

    def settle(self) -> None:
        """Deliver until nobody has anything to say."""
        while any(side.step() for side in self.sides):
            pass

    def advance(self, seconds: float) -> None:
        """Let time pass, each deadline at its moment."""
        end = self.now + seconds
        while True:
            due = [one for side in self.sides if (one := side.machine.deadline()) is not None]
            moment = min(due, default=end)
            if moment > end:
                break
            self.now = max(self.now, moment)
            for side in self.sides:
                side.done(side.machine.tick(at(self.now)))
            self.settle()
            if moment == end:
                break
        self.now = end


class Side:
    """One machine with its link.

    `did` is what its commands told its owner, but for `SendOnStream`.
    """

    def __init__(self, plane: Plane, role: Party, peer_id: str, access: Access) -> None:
        self.plane, self.access, self._next_id = plane, access, peer_id
        self.machine = CoordinationClient(role)
        self.did: list[Command] = []
        self.sent: list[Message] = []
        self.heard: list[Message] = []
        self.stream: PeerStream | None = None
        self.is_up = False
        self.rejected: Message | None = None
        self.knows_tokens = True
        self._to_server: list[Message] = []
        self._answers: list[Message] = []
        plane.sides.append(self)

    # -- its owner ---------------------------------------------------------------------------

    def connect(self) -> Side:
        self.is_up = True
        self.done(self.machine.link_up(at(self.plane.now)))
        self.plane.settle()
        return self

    def cut(self, facts: tuple[Evidence, ...] = LINK_LOST) -> None:
        """The link ends."""
        self.is_up = False
        self._to_server.clear()
        self._answers.clear()
        if self.stream is not None:
            self.plane.coordinator.lost(self.stream, "server.vanished")
            self.stream = None
        self.done(self.machine.link_over(facts, at(self.plane.now)))
        self.plane.settle()

    def perform(self, commands: list[Command]) -> None:
        """Do what the machine asked for, to the end."""
        self.done(commands)
        self.plane.settle()

    def done(self, commands: list[Command]) -> None:
        for command in commands:
            if not isinstance(command, SendOnStream):
                self.did.append(command)
            elif self.is_up:
                self.sent.append(command.message)
                self._to_server.append(command.message)

    def took(self, kind: type[T]) -> list[T]:
        """What it was told so far, of one kind; forgotten then."""
        found: list[T] = [one for one in self.did if isinstance(one, kind)]
        self.did = [one for one in self.did if not isinstance(one, kind)]
        return found

    def asked(self) -> list[Coordinate]:
        """What it asked of the coordinator so far; forgotten then."""
        found = [one for one in self.sent if isinstance(one, Coordinate)]
        self.sent.clear()
        return found

    # -- the server's side of its link -------------------------------------------------------

    def step(self) -> bool:
        before = len(self.heard), len(self._to_server)
        while self._to_server:
            self._serve(self._to_server.pop(0))
        answers, self._answers = self._answers, []
        if self.stream is not None:
            answers += drain(self.stream)
            if self.stream.over is not None:
                self.stream = None
        for message in answers if self.is_up else []:
            self.heard.append(message)
            self.done(self.machine.receive(message, at(self.plane.now), 0.0))
        return before != (len(self.heard), len(self._to_server))

    def _serve(self, message: Message) -> None:
        wall = at(self.plane.now).wall
        match message:
            case CoordinateOpen(resume_token=token):
                if self.rejected is not None:
                    self._answers.append(self.rejected)
                    return
                kept = read(KEY, token, holder="h", wall=wall) if token else ""
                peer_id = kept or self._next_id
                self.stream, _ = self.plane.coordinator.open(peer_id, self.access)
                if self.stream.over is None:
                    self._answers.append(CoordinateOpened(peer_id=peer_id))
            case Coordinate() if self.stream is not None:
                self.plane.coordinator.request(self.stream, message)
            case ResumeTokenRequest(request_id=number) if self.stream is not None:
                self._answers.append(self._token(number, wall))
            case _:
                pass

    def _token(self, number: int, wall: float) -> Message:
        if not self.knows_tokens:
            return Unsupported(message_type="resume_token_request")
        assert self.stream is not None
        return ResumeTokenGrant(
            request_id=number,
            token=mint(KEY, peer_id=self.stream.peer_id, holder="h", wall=wall),
            expires_in_s=EXPIRES_S,
            refresh_in_s=REFRESH_S,
        )

    def come_back_as(self, peer_id: str) -> None:
        """The id that the server would give it if it had no token."""
        self._next_id = peer_id
