"""The tunnel peers that one side of the control plane knows of.

Law: no I/O and no clock. A peer that leaves is forgotten. One that is lost is kept for a while, because
a lost control plane says nothing about a tunnel. Bounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tether.protocol.messages.coordination import Node, PeerUpdate, PeerWord
from tether.protocol.timestamp import Timestamp

LOST_KEPT_S = 15 * 60.0
"""How long a lost peer is kept."""

MAX_PEERS = 10_000


@dataclass(frozen=True, slots=True)
class PeerChanged:
    """A tunnel peer is here, is elsewhere, is lost (and kept), or has left (and is forgotten)."""

    update: PeerUpdate


@dataclass(frozen=True, slots=True)
class KnownPeer:
    """What is known of a tunnel peer."""

    node: Node
    forget_at: float | None = None
    """While it is lost, when (monotonic seconds) it is forgotten."""

    @property
    def is_lost(self) -> bool:
        """Whether its stream, or ours, ended without a word."""
        return self.forget_at is not None


class KnownPeers:
    """The known peers, by their ids."""

    def __init__(self, *, capacity: int = MAX_PEERS) -> None:
        self._capacity = capacity
        self._peers: dict[str, KnownPeer] = {}

    @property
    def all(self) -> Mapping[str, KnownPeer]:
        """Every peer that is known, lost ones included."""
        return self._peers

    def deadline(self) -> float | None:
        """When (monotonic seconds) to call `tick` next; None for never."""
        due = (one.forget_at for one in self._peers.values() if one.forget_at is not None)
        return min(due, default=None)

    def receive(self, update: PeerUpdate, now: Timestamp) -> list[PeerChanged]:
        """Something happened to a peer."""
        known = self._peers.get(update.id)
        match update.kind:
            case PeerWord.NODE if update.node is not None:
                if known is None and len(self._peers) >= self._capacity:
                    return []
                self._peers[update.id] = KnownPeer(update.node)
            case PeerWord.DISCONNECTED if known is not None:
                del self._peers[update.id]
            case PeerWord.LOST if known is not None and not known.is_lost:
                self._peers[update.id] = replace(known, forget_at=now.mono + LOST_KEPT_S)
            case _:  # also that a peer is ready for a handshake: nobody has to wait for that
                return []
        return [PeerChanged(update)]

    def lose_all(self, now: Timestamp) -> list[PeerChanged]:
        """The control plane is away: everybody is lost, and kept."""
        updates = [PeerUpdate(id=one, kind=PeerWord.LOST, reason="lost") for one in self._peers]
        return [event for update in updates for event in self.receive(update, now)]

    def forget(self, peer_id: str) -> None:
        """This peer is of no interest any more."""
        self._peers.pop(peer_id, None)

    def tick(self, now: Timestamp) -> list[PeerChanged]:
        """Time has passed. Re-arm the timer from `deadline()`."""
        reason = "lost for too long"
        updates = [
            PeerUpdate(id=peer_id, kind=PeerWord.DISCONNECTED, reason=reason)
            for peer_id, peer in self._peers.items()
            if peer.forget_at is not None and now.mono >= peer.forget_at
        ]
        return [event for update in updates for event in self.receive(update, now)]
