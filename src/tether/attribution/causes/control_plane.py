"""Why the control plane turns a peer away or ends what it has with one.

Law: rows only; see `catalogue`.
"""

from __future__ import annotations

from tether.attribution.causes import codes
from tether.attribution.causes.cause import Cause
from tether.attribution.vocabulary import Element, Initiator, Reason

ROWS: tuple[Cause, ...] = (
    Cause(
        codes.SERVER_DATABASE_UNAVAILABLE,
        Reason.CONTROL_PLANE_LOST,
        Initiator.SERVER,
        False,
        "The control plane lost its database",
        "The control plane could not use its database, so it let go of its connections.",
        "It is redialled on its own; the operator looks at the database's disk, file or server.",
        element=Element.SERVER,
    ),
    Cause(
        codes.AGENT_OUTDATED,
        Reason.PROTOCOL_ERROR,
        Initiator.SERVER,
        False,
        "The agent is too old for this server",
        "The workspace's agent is of an older version than the server allows.",
        "Update the agent in the workspace and start it again.",
        element=Element.AGENT,
    ),
    Cause(
        codes.COORDINATION_OVERWRITTEN,
        Reason.SUPERSEDED,
        Initiator.SERVER,
        False,
        "A newer connection took this one's place",
        "A newer connection with the same identity took this one's place at the coordinator.",
        "If it recurs, look for two programs that run with one identity.",
    ),
    Cause(
        codes.COORDINATION_REFUSED,
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
        element=Element.AGENT,
    ),
    Cause(
        "client.not_reading",
        Reason.PEER_UNRESPONSIVE,
        Initiator.CLIENT,
        False,
        "The client took no updates",
        "The client did not take what the coordinator had to tell it, for too long.",
        "Look for a frozen client process, or a network that carries next to nothing.",
        element=Element.CLIENT,
    ),
)
