"""Whose side an end lies on: ours, the workspace's, the network's, or their machine's.

Law: derived from the cause alone, by one table, for every cause. A side is no blame and no initiator: a
network of the client's own counts as their machine, what lies between two parties as the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from tether.attribution.causes.catalogue import CATALOGUE, cause_of


class Side(StrEnum):
    """Where to look first."""

    US = "us"
    WORKSPACE = "workspace"
    NETWORK = "network"
    MACHINE = "machine"
    UNKNOWN = "unknown"


SIDES: Mapping[str, Side] = {
    "server": Side.US,
    "relay": Side.US,
    "coordination": Side.US,
    "auth": Side.US,
    "policy": Side.US,
    "workspace": Side.US,
    "agent": Side.WORKSPACE,
    "session": Side.WORKSPACE,
    "ide": Side.WORKSPACE,
    "network": Side.NETWORK,
    "client": Side.MACHINE,
    "unknown": Side.UNKNOWN,
}
"""First part of a cause's code -> side."""

EXCEPTIONS: Mapping[str, Side] = {
    # a silence between two parties says nothing of either
    "server.unreachable": Side.NETWORK,
    "relay.unreachable": Side.NETWORK,
    "agent.unreachable": Side.NETWORK,
    "client.unreachable": Side.NETWORK,
    # it is for whoever runs the server to say what it still serves
    "agent.outdated": Side.US,
    "session.exit": Side.MACHINE,
    "session.forwarded": Side.MACHINE,
    "session.signal": Side.MACHINE,
    "session.detached": Side.MACHINE,
    "session.killed": Side.MACHINE,
    "ide.closed": Side.MACHINE,
}


def side_of(code: str) -> Side:
    """The side of a cause; a code of a newer peer counts as unknown."""
    known = cause_of(code).code
    return EXCEPTIONS.get(known) or SIDES[known.partition(".")[0]]


CAUSES_OF: Mapping[Side, tuple[str, ...]] = {
    side: tuple(code for code in CATALOGUE if side_of(code) is side) for side in Side
}
"""Side -> its causes."""
