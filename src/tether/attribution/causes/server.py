"""What the server and its relays do, and what happens to them.

Law: rows only; see `causes`.
"""

from __future__ import annotations

from tether.attribution.causes.cause import Cause
from tether.attribution.vocabulary import Initiator, Reason

ROWS: tuple[Cause, ...] = (
    Cause(
        "server.shutdown",
        Reason.SERVER_SHUTDOWN,
        Initiator.SERVER,
        True,
        "The control plane shut down",
        "The control plane was asked to stop ({actor}) and said goodbye.",
        "Reconnect when it is back; a restart or an upgrade takes seconds.",
    ),
    Cause(
        "server.crashed",
        Reason.CONTROL_PLANE_LOST,
        Initiator.SERVER,
        False,
        "The control plane was killed or crashed",
        "The control plane was killed or crashed and has come back.",
        "Ask the operator to look at the server's log and memory around that time.",
    ),
    Cause(
        "server.vanished",
        Reason.CONTROL_PLANE_LOST,
        Initiator.SERVER,
        False,
        "The control plane went away",
        "The control plane went away without a goodbye.",
        "It is redialled on its own. If it stays away, ask the operator.",
    ),
    Cause(
        "server.unreachable",
        Reason.CONTROL_PLANE_LOST,
        Initiator.NETWORK,
        False,
        "The control plane could no longer be reached",
        "The control plane could no longer be reached: its connection fell silent.",
        "Check the network between this machine and the server.",
    ),
    Cause(
        "server.protocol_error",
        Reason.PROTOCOL_ERROR,
        Initiator.SERVER,
        False,
        "The server broke the protocol",
        "The server sent something that is not part of the protocol, so the connection was ended.",
        "Check the server's version, and for a proxy that alters traffic.",
    ),
    Cause(
        "relay.crashed",
        Reason.PROCESS_CRASHED,
        Initiator.SERVER,
        False,
        "The relay was killed or crashed",
        "The relay that carried this connection was killed or crashed.",
        "Reconnect. Ask the operator to look at the relay's log around that time.",
    ),
    Cause(
        "relay.shutdown",
        Reason.SERVER_SHUTDOWN,
        Initiator.SERVER,
        True,
        "The relay was stopped or restarted",
        "The relay that carried this connection was stopped or restarted as planned.",
        "Wait a moment: the connection goes on over another relay.",
    ),
    Cause(
        "relay.unreachable",
        Reason.NETWORK_ERROR,
        Initiator.NETWORK,
        False,
        "The relay could no longer be reached",
        "The relay that carried this connection could no longer be reached.",
        "Check the network between this machine and the relay.",
    ),
    Cause(
        "server.unresponsive",
        Reason.CONTROL_PLANE_LOST,
        Initiator.SERVER,
        False,
        "The control plane stopped answering",
        "The control plane stopped answering although its machine still acknowledged data.",
        "Ask the operator to look for a frozen server process.",
    ),
    Cause(
        "server.overloaded",
        Reason.CONTROL_PLANE_LOST,
        Initiator.SERVER,
        False,
        "The control plane was overloaded",
        "The control plane was too busy to answer, so the link fell silent.",
        "Ask the operator to look at the server's CPU and database at that time.",
    ),
    Cause(
        "server.host_rebooted",
        Reason.CONTROL_PLANE_LOST,
        Initiator.SERVER,
        False,
        "The control plane's machine restarted",
        "The control plane's machine restarted under it.",
        "It is redialled on its own. Ask the operator who restarted the machine.",
    ),
    Cause(
        "server.oom_killed",
        Reason.CONTROL_PLANE_LOST,
        Initiator.SERVER,
        False,
        "The control plane was killed as memory ran out",
        "The kernel killed the control plane because its machine or group ran out of memory.",
        "Ask the operator to give the server more memory.",
    ),
    Cause(
        "server.internal_error",
        Reason.CONTROL_PLANE_LOST,
        Initiator.SERVER,
        False,
        "The control plane failed internally",
        "The control plane failed internally while it handled this connection.",
        "This is a bug in Tether: please report it with the server's log.",
    ),
    Cause(
        "relay.unresponsive",
        Reason.PEER_UNRESPONSIVE,
        Initiator.SERVER,
        False,
        "The relay stopped answering",
        "The relay that carried this connection stopped answering although its machine still "
        "acknowledged data.",
        "Ask the operator to look for a frozen or starved relay process.",
    ),
)
