"""What the coordinator does to a stream, and what it says of it.

Law: rows only; see `causes`.
"""

from __future__ import annotations

from tether.attribution.causes.cause import Cause
from tether.attribution.vocabulary import Initiator, Reason

ROWS: tuple[Cause, ...] = (
    Cause(
        "coordination.overwritten",
        Reason.SUPERSEDED,
        Initiator.SERVER,
        False,
        "A newer connection took this one's place",
        "A newer connection with the same identity took this one's place at the coordinator.",
        "If it recurs, look for two programs that run with one identity.",
    ),
    Cause(
        "coordination.refused",
        Reason.ACCESS_REVOKED,
        Initiator.SERVER,
        False,
        "A tunnel was refused by the coordinator",
        "The coordinator refused a tunnel to a workspace that is not there or not the user's.",
        "Check the name of the workspace, and ask its owner for access.",
    ),
    Cause(
        "agent.not_reading",
        Reason.PEER_UNRESPONSIVE,
        Initiator.AGENT,
        False,
        "The workspace's agent took no updates",
        "The workspace's agent did not take what the coordinator had to tell it, for too long.",
        "Look for a frozen or starved agent process, or a network that carries next to nothing.",
    ),
    Cause(
        "client.not_reading",
        Reason.PEER_UNRESPONSIVE,
        Initiator.CLIENT,
        False,
        "The client took no updates",
        "The client did not take what the coordinator had to tell it, for too long.",
        "Look for a frozen client process, or a network that carries next to nothing.",
    ),
)
