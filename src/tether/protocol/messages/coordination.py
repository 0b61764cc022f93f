"""Coordination: who is where, told over the control link, in one logical stream of it.

Law: types only. The dialler opens the stream and leaves it with a cause. The server pushes what the
dialler's tunnel peers do, and says why it closes a stream. The end of a stream says nothing about a
tunnel.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from tether.protocol.messages.base import Message

MAX_ENDPOINTS = 64
"""Endpoints of a node; more are a violation."""

TRIED_ENDPOINTS = 16
"""Endpoints that an agent offers, and that a client tries, at most."""


class PeerWord(StrEnum):
    """What happened to a tunnel peer."""

    NODE = "node"  # it is here, and this is where
    DISCONNECTED = "disconnected"  # it left, or the tunnel was removed: forget it
    LOST = "lost"  # its stream ended without a word: it may live on, and come back
    READY_FOR_HANDSHAKE = "ready_for_handshake"  # it knows of us


class Node(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a peer can be reached, as it says itself."""

    id: str
    as_of: float
    """When it was so (unix seconds, the peer's clock)."""
    home_region: str = ""
    """The DERP region that it would like to be met in."""
    region_latency: dict[str, float] = {}
    """Region -> round trip, in seconds."""
    endpoints: list[str] = []
    """Where it listens for direct carriers, `host:port`, best first."""
    ssh_host_key: str = ""


class PeerUpdate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that happened to one tunnel peer."""

    id: str
    kind: str
    """A `PeerWord` word."""
    node: Node | None = None
    reason: str = ""
    """A few words for logs: `node update`, `graceful disconnect`, `lost`, `failed update` …"""
    cause: str = ""
    """Why it left or was lost: a catalogue code, "" where there is nothing to explain."""
    actor: str = ""


class Departure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A peer leaves the coordinator, and this is why."""

    cause: str
    actor: str = ""
    detail: str = ""


class CoordinateOpen(Message, frozen=True, kw_only=True):
    """Dialler: open the coordination stream of this link."""

    resume_token: str = ""
    """Of the last stream: keeps the peer id."""


class CoordinateOpened(Message, frozen=True, kw_only=True):
    """Server: the stream is open, and this is who you are in it."""

    peer_id: str


class Coordinate(Message, frozen=True, kw_only=True):
    """Dialler: this has changed. It is done in the order of the keys."""

    update_self: Node | None = None
    add_tunnel: str = ""
    remove_tunnel: str = ""
    disconnect: Departure | None = None
    ready_for_handshake: list[str] = []


class PeerUpdates(Message, frozen=True, kw_only=True):
    """Server: what your tunnel peers did, in order."""

    updates: list[PeerUpdate]


class CoordinateError(Message, frozen=True, kw_only=True):
    """Server: this could not be done; the stream is kept."""

    error: str


class CoordinateClosed(Message, frozen=True, kw_only=True):
    """Server: the stream is over, or was not opened. `error` is "" after your own disconnect."""

    error: str = ""
    cause: str = ""
    actor: str = ""
    detail: str = ""
    retry_after_s: float = 0.0


class ResumeTokenRequest(Message, frozen=True, kw_only=True):
    """Dialler: a fresh token for this stream's peer id, please."""

    request_id: int


class ResumeTokenGrant(Message, frozen=True, kw_only=True):
    """Server: offer this when you open the next stream."""

    request_id: int
    token: str
    expires_in_s: float
    refresh_in_s: float
