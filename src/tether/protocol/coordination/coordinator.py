"""The coordinator: tells the two ends of each tunnel where the other one is. One machine a server.

Law: no I/O and no clock. What a stream is to be sent waits in it, bounded, until `take` is called; each
method returns the streams that have something new to take. A stream ends once, with a type, an error
text and a cause. Nothing here ends a tunnel.

A peer that says `disconnect` is *disconnected* to its tunnel peers. One whose stream just ends is
*lost*, because it may live on. A peer is told of the end of those only whose node it was sent.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum, auto

import msgspec

from tether.attribution.causes.catalogue import PROTOCOL_ERRORS, SLOW_READERS
from tether.attribution.causes.codes import COORDINATION_OVERWRITTEN, COORDINATION_REFUSED
from tether.protocol.coordination.access import MAX_NODE_WORD, Access, refusal
from tether.protocol.messages.base import Message
from tether.protocol.messages.coordination import (
    Coordinate,
    CoordinateClosed,
    CoordinateError,
    Departure,
    Node,
    PeerUpdate,
    PeerUpdates,
    PeerWord,
)

MAX_WAITING = 512
"""What may wait to be sent to one peer, which is removed if there is more."""

BATCH = 64
"""Updates in one message."""


class StreamEnding(Enum):
    """How a stream ended."""

    LEFT = auto()  # it said `disconnect`
    LOST = auto()  # its link ended first
    OVERWRITTEN = auto()  # its peer id was claimed by a newer stream
    OVERFLOWED = auto()  # it did not take what was sent to it
    REFUSED = auto()  # it asked for a tunnel that it may not open
    VIOLATED = auto()  # it asked for what no peer of its kind may
    CLOSED = auto()  # the coordinator closed


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOver:
    """The typed end of one stream. `error` is for its peer, "" where the peer asked for the end."""

    ending: StreamEnding
    error: str = ""
    cause: str
    actor: str = ""
    detail: str = ""


class PeerStream:
    """One coordination stream, as the coordinator has it."""

    def __init__(self, peer_id: str, access: Access, overwrites: int) -> None:
        self.peer_id = peer_id
        self.party = access.party
        self.access = access
        self.overwrites = overwrites  # how many older streams of its peer were overwritten in a row
        self.node: Node | None = None  # where its peer is
        self.over: StreamOver | None = None  # how it ended
        self._told_of: dict[str, Node] = {}  # what it was last sent of each tunnel peer
        self._waiting: deque[PeerUpdate | CoordinateError] = deque()  # what is to be taken
        self._closing: deque[CoordinateClosed] = deque()  # what is to be taken last

    def take(self) -> Message | None:
        """The next message for this peer; None for none at present."""
        if not self._waiting:
            return self._closing.popleft() if self._closing else None
        first = self._waiting.popleft()
        if isinstance(first, CoordinateError):
            return first
        updates = [first]
        while self._waiting and len(updates) < BATCH:
            following = self._waiting[0]
            if isinstance(following, CoordinateError):
                break
            updates.append(following)
            self._waiting.popleft()
        return PeerUpdates(updates=updates)


class Coordinator:
    """All streams of a server, and the tunnels between their peers."""

    def __init__(self) -> None:
        self._streams: dict[str, PeerStream] = {}  # by peer id
        self._to: dict[str, dict[str, None]] = {}  # source -> destinations
        self._from: dict[str, dict[str, None]] = {}  # destination -> sources
        self._woken: dict[PeerStream, None] = {}  # those that have something new to take
        self._full: deque[PeerStream] = deque()  # those that do not take what is sent to them
        self._closed: StreamOver | None = None  # how every stream ends, while closed

    def node_of(self, peer_id: str) -> Node | None:
        """Where a peer is now, if it is here and has said so."""
        stream = self._streams.get(peer_id)
        return None if stream is None else stream.node

    def tunnels_of(self, source: str) -> tuple[str, ...]:
        """The destinations of a peer's tunnels."""
        return tuple(self._to.get(source, ()))

    def __len__(self) -> int:
        return len(self._streams)

    # -- what may happen to a stream ---------------------------------------------------------

    def open(self, peer_id: str, access: Access) -> tuple[PeerStream, list[PeerStream]]:
        """A peer is here. An older stream with its id is overwritten; its tunnels are kept."""
        older = self._streams.get(peer_id)
        stream = PeerStream(peer_id, access, older.overwrites + 1 if older else 0)
        if self._closed is not None:
            self._end(stream, self._closed)
            return stream, self._flush()
        if older is not None:
            self._end(
                older,
                StreamOver(
                    ending=StreamEnding.OVERWRITTEN,
                    error="peer ID overwritten by new connection",
                    cause=COORDINATION_OVERWRITTEN,
                ),
            )
        self._streams[peer_id] = stream
        for peer in self._tunnel_peers(peer_id):
            self._tell_node(stream, peer, "init")
        return stream, self._flush()

    def request(self, stream: PeerStream, asked: Coordinate) -> list[PeerStream]:
        """A peer asks for something. If it may not ask for that, its stream ends."""
        if stream.over is not None:
            return []
        tunnels = len(self._to.get(stream.peer_id, ()))
        refused = refusal(stream.peer_id, stream.access, asked, tunnels)
        if refused is not None:
            over = StreamOver(
                ending=StreamEnding.VIOLATED if refused.violates else StreamEnding.REFUSED,
                error=refused.what,
                cause=PROTOCOL_ERRORS[stream.party] if refused.violates else COORDINATION_REFUSED,
                detail=refused.what,
            )
            self._remove(stream, over, PeerWord.LOST, "lost")
            return self._flush()
        if asked.update_self is not None:
            stream.node = asked.update_self
            for peer in self._tunnel_peers(stream.peer_id):
                self._tell_node(peer, stream, "node update")
        if asked.add_tunnel:
            self._add_tunnel(stream, asked.add_tunnel)
        if asked.remove_tunnel:
            self._remove_tunnel(stream, asked.remove_tunnel)
        if asked.disconnect is not None:
            self._disconnect(stream, asked.disconnect)
        for peer_id in asked.ready_for_handshake:
            self._ready(stream, peer_id)
        return self._flush()

    def lost(self, stream: PeerStream, cause: str, actor: str = "") -> list[PeerStream]:
        """The link below a stream ended, for `cause`. Of no effect once the stream is over."""
        if stream.over is None:
            over = StreamOver(ending=StreamEnding.LOST, cause=cause, actor=actor)
            self._remove(stream, over, PeerWord.LOST, "lost")
            stream._closing.clear()  # which nobody would take
        return self._flush()

    def close(
        self, cause: str, *, actor: str = "", detail: str = "", error: str = "coordinator closed"
    ) -> list[PeerStream]:
        """End every stream, and refuse new ones until `reopen`."""
        self._closed = StreamOver(
            ending=StreamEnding.CLOSED, error=error, cause=cause, actor=actor, detail=detail
        )
        for stream in list(self._streams.values()):
            self._end(stream, self._closed)
        for table in (self._streams, self._to, self._from):
            table.clear()
        return self._flush()

    def reopen(self) -> None:
        """Take streams again."""
        self._closed = None

    # -- what is done about it -----------------------------------------------------------------

    def _add_tunnel(self, source: PeerStream, destination_id: str) -> None:
        self._to.setdefault(source.peer_id, {})[destination_id] = None
        self._from.setdefault(destination_id, {})[source.peer_id] = None
        destination = self._streams.get(destination_id)
        if destination is not None:
            self._tell_node(source, destination, "add tunnel")
            self._tell_node(destination, source, "add tunnel")

    def _remove_tunnel(self, source: PeerStream, destination_id: str) -> None:
        if destination_id not in self._to.get(source.peer_id, ()):
            return
        self._forget_tunnel(source.peer_id, destination_id)
        destination = self._streams.get(destination_id)
        if destination is not None:
            word, reason = PeerWord.DISCONNECTED, "remove tunnel"
            self._tell_end(source, destination_id, word, reason)
            self._tell_end(destination, source.peer_id, word, reason)

    def _disconnect(self, stream: PeerStream, said: Departure) -> None:
        over = StreamOver(
            ending=StreamEnding.LEFT, cause=said.cause, actor=said.actor, detail=said.detail
        )
        self._remove(stream, over, PeerWord.DISCONNECTED, "graceful disconnect")

    def _ready(self, stream: PeerStream, peer_id: str) -> None:
        if stream.over is not None:
            return
        peers = {peer.peer_id: peer for peer in self._tunnel_peers(stream.peer_id)}
        if (peer := peers.get(peer_id)) is not None:
            self._put(peer, PeerUpdate(id=stream.peer_id, kind=PeerWord.READY_FOR_HANDSHAKE))
        else:
            error = f'you do not share a tunnel with "{peer_id[:MAX_NODE_WORD]}"'
            self._put(stream, CoordinateError(error=f"ready for handshake error: {error}"))

    def _remove(self, stream: PeerStream, over: StreamOver, word: PeerWord, reason: str) -> None:
        peers = self._tunnel_peers(stream.peer_id)
        del self._streams[stream.peer_id]
        for destination_id in self.tunnels_of(stream.peer_id):
            self._forget_tunnel(stream.peer_id, destination_id)
        self._end(stream, over)
        for peer in peers:
            self._tell_end(peer, stream.peer_id, word, reason, over)

    def _end(self, stream: PeerStream, over: StreamOver) -> None:
        stream.over = over
        if over.ending is StreamEnding.OVERFLOWED:
            stream._waiting.clear()
        stream._told_of.clear()
        stream._closing.append(
            CoordinateClosed(
                error=over.error, cause=over.cause, actor=over.actor, detail=over.detail
            )
        )
        self._woken[stream] = None

    def _forget_tunnel(self, source_id: str, destination_id: str) -> None:
        for table, key, value in (
            (self._to, source_id, destination_id),
            (self._from, destination_id, source_id),
        ):
            del table[key][value]
            if not table[key]:
                del table[key]

    def _tunnel_peers(self, peer_id: str) -> list[PeerStream]:
        ids = {**self._to.get(peer_id, {}), **self._from.get(peer_id, {})}
        return [self._streams[other] for other in ids if other in self._streams]

    # -- what is sent --------------------------------------------------------------------------

    def _tell_node(self, to: PeerStream, of: PeerStream, reason: str) -> None:
        node = of.node
        if node is None or to is of or _same(node, to._told_of.get(of.peer_id)):
            return
        to._told_of[of.peer_id] = node
        self._put(to, PeerUpdate(id=of.peer_id, kind=PeerWord.NODE, node=node, reason=reason))

    def _tell_end(
        self,
        to: PeerStream,
        of: str,
        word: PeerWord,
        reason: str,
        over: StreamOver | None = None,
    ) -> None:
        if to._told_of.pop(of, None) is not None:
            cause, actor = (over.cause, over.actor) if over is not None else ("", "")
            self._put(to, PeerUpdate(id=of, kind=word, reason=reason, cause=cause, actor=actor))

    def _put(self, to: PeerStream, item: PeerUpdate | CoordinateError) -> None:
        if len(to._waiting) >= MAX_WAITING:
            self._full.append(to)
            return
        to._waiting.append(item)
        self._woken[to] = None

    def _flush(self) -> list[PeerStream]:
        while self._full:  # removing one may fill up another
            stream = self._full.popleft()
            if stream.over is None:
                over = StreamOver(
                    ending=StreamEnding.OVERFLOWED,
                    error="failed to update tunnel peer mapping: too many updates are not taken",
                    cause=SLOW_READERS[stream.party],
                )
                self._remove(stream, over, PeerWord.DISCONNECTED, "failed update")
        woken, self._woken = list(self._woken), {}
        return woken


def _same(node: Node, other: Node | None) -> bool:
    """Whether both say the same, whenever that was."""
    return other is not None and msgspec.structs.replace(other, as_of=node.as_of) == node
