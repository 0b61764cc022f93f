"""The tunnel peers that one side of the control plane knows of.

Law: no I/O and no clock. Whoever leaves is forgotten; whoever is lost is kept for a while, because a
lost control plane says nothing about a tunnel. Bounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from tether.protocol.messages.coordination import Node, PeerUpdate, PeerWord
from tether.protocol.timestamp import Timestamp

READY_S = 5.0
"""How long a peer that is ready for its handshake is waited for; then one goes ahead."""

LOST_KEPT_S = 15 * 60.0
"""How long a lost peer is kept after it was last heard of."""

MAX_PEERS = 10_000


@dataclass(frozen=True, slots=True)
class PeerChanged:
    """A tunnel peer is here, is elsewhere, is lost (and kept), or has left (and is forgotten)."""

    update: PeerUpdate


@dataclass(frozen=True, slots=True)
class PeerReady:
    """A tunnel to this peer may begin; `confirmed` by it, or for want of a word in time."""

    peer_id: str
    confirmed: bool


PeerEvent = PeerChanged | PeerReady


@dataclass(frozen=True, slots=True)
class KnownPeer:
    """What is known of a tunnel peer. `forget_at` is set while it is lost."""

    node: Node
    ready: bool = False
    ready_by: float | None = None
    forget_at: float | None = None

    @property
    def is_lost(self) -> bool:
        return self.forget_at is not None


class KnownPeers:
    """See the module's law. `awaited`: whether a new peer has to say that it is ready."""

    def __init__(self, *, awaited: bool, capacity: int = MAX_PEERS) -> None:
        self._awaited, self._capacity = awaited, capacity
        self._peers: dict[str, KnownPeer] = {}

    @property
    def all(self) -> Mapping[str, KnownPeer]:
        return self._peers

    def deadline(self) -> float | None:
        """When (monotonic seconds) to call `tick` next; None for never."""
        return min((due for one in self._peers.values() for due in _due(one)), default=None)

    def receive(self, update: PeerUpdate, now: Timestamp) -> list[PeerEvent]:
        """Something happened to a peer."""
        known = self._peers.get(update.id)
        match update.kind:
            case PeerWord.NODE if update.node is not None:
                if known is None and len(self._peers) >= self._capacity:
                    return []
                self._peers[update.id] = self._with_node(known, update.node, now)
            case PeerWord.DISCONNECTED if known is not None:
                del self._peers[update.id]
            case PeerWord.LOST if known is not None and not known.is_lost:
                self._peers[update.id] = replace(known, forget_at=now.mono + LOST_KEPT_S)
            case PeerWord.READY_FOR_HANDSHAKE if known is not None and not known.ready:
                self._peers[update.id] = replace(known, ready=True, ready_by=None)
                return [PeerReady(update.id, confirmed=True)]
            case _:
                return []
        return [PeerChanged(update)]

    def lose_all(self, now: Timestamp) -> list[PeerEvent]:
        """The control plane is away: everybody is lost, and kept."""
        return [
            event
            for peer_id in self._peers
            for event in self.receive(
                PeerUpdate(id=peer_id, kind=PeerWord.LOST, reason="lost"), now
            )
        ]

    def forget(self, peer_id: str) -> None:
        """This peer is of no interest any more."""
        self._peers.pop(peer_id, None)

    def heard_of(self, peer_id: str, now: Timestamp) -> None:
        """A tunnel to this peer lives: if it is lost, it is kept for longer."""
        peer = self._peers.get(peer_id)
        if peer is not None and peer.is_lost:
            self._peers[peer_id] = replace(peer, forget_at=now.mono + LOST_KEPT_S)

    def tick(self, now: Timestamp) -> list[PeerEvent]:
        """Time has passed. Re-arm the timer from `deadline()`."""
        events: list[PeerEvent] = []
        for peer_id, peer in list(self._peers.items()):
            if peer.forget_at is not None and now.mono >= peer.forget_at:
                word, reason = PeerWord.DISCONNECTED, "lost for too long"
                events += self.receive(PeerUpdate(id=peer_id, kind=word, reason=reason), now)
            elif peer.ready_by is not None and now.mono >= peer.ready_by:
                self._peers[peer_id] = replace(peer, ready=True, ready_by=None)
                events.append(PeerReady(peer_id, confirmed=False))
        return events

    def _with_node(self, known: KnownPeer | None, node: Node, now: Timestamp) -> KnownPeer:
        if known is not None and not known.is_lost:
            return replace(known, node=node)
        if self._awaited:
            return KnownPeer(node, ready_by=now.mono + READY_S)
        return KnownPeer(node, ready=True)


def _due(peer: KnownPeer) -> Iterator[float]:
    if peer.forget_at is not None:
        yield peer.forget_at
    if peer.ready_by is not None:
        yield peer.ready_by
