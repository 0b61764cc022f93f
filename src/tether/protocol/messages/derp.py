"""The DERP map: which relays there are, as the server tells agents and clients.

Law: types only. The whole map is sent at once after the welcome and again on each change, never a
difference: whoever has the newest one knows all.
"""

from __future__ import annotations

import re
from enum import StrEnum

import msgspec

from tether.protocol.messages.base import Message

REGION_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")

EMBEDDED_REGION = "embedded"
"""The DERP region of the relay inside the server; no other relay may be in it."""


class NodeStatus(StrEnum):
    """Whether a relay takes new carriers."""

    OK = "ok"
    DRAINING = "draining"  # it will restart or be removed: move away, and come with nothing new


class DerpNode(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One relay."""

    url: str
    """Where its legs are dialled, `ws://…/derp`."""
    status: str = NodeStatus.OK
    """A `NodeStatus` word."""


class DerpRegion(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Relays near one another."""

    name: str
    nodes: list[DerpNode] = []


class DerpMap(Message, frozen=True, kw_only=True):
    """Server to agent and client: these are the regions now, the embedded relay's included. The
    tickets for their relays come with grants and offers."""

    regions: list[DerpRegion] = []
