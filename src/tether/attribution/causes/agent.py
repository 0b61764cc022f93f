"""What an agent does, and what happens to it.

Law: rows only; see `causes`.
"""

from __future__ import annotations

from tether.attribution.causes.cause import Cause
from tether.attribution.vocabulary import Initiator, Reason

ROWS: tuple[Cause, ...] = (
    Cause(
        "agent.shutdown",
        Reason.SERVER_SHUTDOWN,
        Initiator.AGENT,
        True,
        "The workspace's agent shut down",
        "The workspace's agent was asked to stop ({actor}) and ended its sessions in order.",
        "Reconnect when the agent is back; ask whoever stopped it if it was not you.",
    ),
    Cause(
        "agent.crashed",
        Reason.PROCESS_CRASHED,
        Initiator.AGENT,
        False,
        "The workspace's agent was killed or crashed",
        "The workspace's agent was killed or crashed and has come back; its sessions were lost.",
        "Reconnect. Look in the workspace for a `kill -9`, memory pressure or a crash report.",
    ),
    Cause(
        "agent.host_rebooted",
        Reason.PROCESS_CRASHED,
        Initiator.AGENT,
        False,
        "The workspace's machine restarted",
        "The workspace's machine restarted under a running agent; its sessions were lost.",
        "Reconnect. Ask who restarted the machine, or look for a crash of its kernel.",
    ),
    Cause(
        "agent.vanished",
        Reason.PROCESS_CRASHED,
        Initiator.AGENT,
        False,
        "The workspace's agent disappeared",
        "The workspace's agent disappeared without a goodbye: its process ended at once.",
        "Check whether the workspace still runs, and restart its agent.",
    ),
    Cause(
        "agent.unresponsive",
        Reason.PEER_UNRESPONSIVE,
        Initiator.AGENT,
        False,
        "The workspace's agent stopped answering",
        "The workspace's agent stopped answering although its machine still acknowledged data.",
        "Look for a frozen or starved agent process in the workspace.",
    ),
    Cause(
        "agent.unreachable",
        Reason.NETWORK_ERROR,
        Initiator.NETWORK,
        False,
        "The workspace could no longer be reached",
        "The workspace could no longer be reached: its connection fell silent.",
        "Check the workspace's network and whether its machine still runs.",
    ),
    Cause(
        "agent.superseded",
        Reason.SUPERSEDED,
        Initiator.SERVER,
        False,
        "A second agent took over this workspace",
        "A second agent connected with the same token, and the server ended the older connection.",
        "Run one agent per workspace: look for a copied token or a cloned machine.",
    ),
    Cause(
        "agent.protocol_error",
        Reason.PROTOCOL_ERROR,
        Initiator.AGENT,
        False,
        "The agent broke the protocol",
        "The agent sent something that is not part of the protocol, so the connection was ended.",
        "Check the agent's version against the server's.",
    ),
    Cause(
        "agent.internal_error",
        Reason.PROCESS_CRASHED,
        Initiator.AGENT,
        False,
        "The agent failed internally",
        "The agent failed internally while it handled this connection.",
        "This is a bug in Tether: please report it with the agent's log.",
    ),
)
