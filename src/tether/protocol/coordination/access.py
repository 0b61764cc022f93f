"""What a peer may ask of the coordinator, and how much of it.

Law: pure. A node claims no id but its own, and is bounded. An agent opens no tunnels; a client opens
those that it may. What no peer of its kind may ask is a violation; what this one may not is a refusal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from tether.attribution.standing import may_say
from tether.attribution.vocabulary import Party
from tether.protocol.messages.coordination import MAX_ENDPOINTS, Coordinate, Departure, Node
from tether.protocol.messages.derp import MAX_REGIONS

MAX_TUNNELS = 1024
"""Tunnels of one source."""

MAX_NODE_WORD = 255
"""Characters of an id, a region, an endpoint, or a word of a disconnect."""

MAX_NODE_KEY = 2048
"""Characters of an SSH host key."""


@dataclass(frozen=True, slots=True)
class AgentAccess:
    """An agent: it says where it is, and opens no tunnels."""

    party: ClassVar = Party.AGENT

    def may_reach(self, peer_id: str) -> bool:
        """Whether it may open a tunnel to this peer."""
        return False


@dataclass(frozen=True, slots=True)
class ClientAccess:
    """A client: it opens tunnels to what `may_reach` lets it."""

    party: ClassVar = Party.CLIENT
    may_reach: Callable[[str], bool]


Access: TypeAlias = AgentAccess | ClientAccess


@dataclass(frozen=True, slots=True)
class RequestDenied:
    """Why a request ends its stream."""

    what: str
    violates: bool
    """Whether no peer of this kind may ask it."""


def refusal(peer_id: str, access: Access, asked: Coordinate, tunnels: int) -> RequestDenied | None:
    """What speaks against a request of a peer that has `tunnels` already; None for nothing."""
    for what in _violations(peer_id, access, asked, tunnels):
        return RequestDenied(what, violates=True)
    if asked.add_tunnel and not access.may_reach(asked.add_tunnel):
        what = "workspace agent not found or you do not have permission"
        return RequestDenied(what, violates=False)
    return None


def _violations(peer_id: str, access: Access, asked: Coordinate, tunnels: int) -> Iterator[str]:
    if asked.add_tunnel and not isinstance(access, ClientAccess):
        yield "agents cannot open tunnels"
    if isinstance(access, ClientAccess) and asked.ready_for_handshake:
        yield "clients may not send ready_for_handshake"
    if asked.update_self is not None:
        if asked.update_self.id != peer_id:
            yield "a node that claims the id of another peer"
        yield from _oversized(asked.update_self)
    if max(len(asked.add_tunnel), len(asked.remove_tunnel)) > MAX_NODE_WORD:
        yield "a tunnel to an id that is none"
    if asked.add_tunnel and tunnels >= MAX_TUNNELS:
        yield f"more than {MAX_TUNNELS} tunnels"
    if len(asked.ready_for_handshake) > MAX_TUNNELS:
        yield f"ready for {len(asked.ready_for_handshake)} handshakes at once"
    if asked.disconnect is not None and not _sayable(access.party, asked.disconnect):
        yield "a disconnect with words that are not this peer's to say"


def _oversized(node: Node) -> Iterator[str]:
    if len(node.endpoints) > MAX_ENDPOINTS:
        yield f"a node with {len(node.endpoints)} endpoints"
    if len(node.region_latency) > MAX_REGIONS:
        yield f"a node with latencies of {len(node.region_latency)} regions"
    words = (node.id, node.home_region, *node.region_latency, *node.endpoints)
    if any(len(word) > MAX_NODE_WORD for word in words) or len(node.ssh_host_key) > MAX_NODE_KEY:
        yield "a node with words that are none"
    if not all(map(math.isfinite, (node.as_of, *node.region_latency.values()))):
        yield "a node with numbers that are none"


def _sayable(party: Party, said: Departure) -> bool:
    words = (said.cause, said.actor, said.detail)
    return may_say(party, said.cause) and all(len(word) <= MAX_NODE_WORD for word in words)
