"""What a client does, and what happens to it.

Law: rows only; see `causes`.
"""

from __future__ import annotations

from tether.attribution.causes.cause import NOTHING, Cause
from tether.attribution.vocabulary import Initiator, Reason

ROWS: tuple[Cause, ...] = (
    Cause(
        "client.closed",
        Reason.CLIENT_CLOSED,
        Initiator.CLIENT,
        True,
        "The client closed the connection",
        "The client closed the connection: the user disconnected, closed the terminal, or the "
        "client program was asked to stop.",
        NOTHING,
    ),
    Cause(
        "client.ssh_killed",
        Reason.PROCESS_CRASHED,
        Initiator.CLIENT,
        False,
        "The ssh program was killed or crashed",
        "The ssh program on the client's machine was killed or crashed: it left an open session "
        "without disconnecting, while its tether process lived on.",
        "Look at the client's machine: out of memory, a crash, or a `kill -9`.",
    ),
    Cause(
        "client.vanished",
        Reason.PROCESS_CRASHED,
        Initiator.CLIENT,
        False,
        "The client's processes were killed or crashed",
        "The client's processes were killed or crashed: their connection ended at once, without a "
        "goodbye.",
        "Look at the client's machine: out of memory, a crash, a forced logout, or a `kill -9`.",
    ),
    Cause(
        "client.protocol_error",
        Reason.PROTOCOL_ERROR,
        Initiator.CLIENT,
        False,
        "The client broke the protocol",
        "The client sent something that is not part of the protocol, so the connection was ended.",
        "Check that the client program is what it should be, and its version.",
    ),
    Cause(
        "client.handshake_timeout",
        Reason.PEER_UNRESPONSIVE,
        Initiator.CLIENT,
        False,
        "The client did not finish its handshake",
        "The client connected but did not finish its handshake in time.",
        "Try again; if it recurs, look for a stalled client or a middlebox that delays data.",
    ),
    Cause(
        "client.unreachable",
        Reason.NETWORK_ERROR,
        Initiator.NETWORK,
        False,
        "The client could no longer be reached",
        "The client could no longer be reached: its connection fell silent.",
        "Check the client's network, VPN and power settings; reconnect when it is back.",
    ),
    Cause(
        "client.internal_error",
        Reason.PROCESS_CRASHED,
        Initiator.CLIENT,
        False,
        "The client failed internally",
        "The client's tether program failed internally while it handled this connection.",
        "This is a bug in Tether: please report it with what the client printed.",
    ),
    Cause(
        "client.oom_killed",
        Reason.RESOURCE_EXHAUSTED,
        Initiator.CLIENT,
        False,
        "The client ran out of memory",
        "The kernel of the client's machine killed the client because memory ran out.",
        "Close programs on the client's machine, or give it more memory.",
    ),
    Cause(
        "client.host_rebooted",
        Reason.PROCESS_CRASHED,
        Initiator.CLIENT,
        False,
        "The client's machine restarted",
        "The client's machine restarted while the connection was open.",
        "Reconnect; nothing was wrong on the workspace's side.",
    ),
    Cause(
        "client.suspended",
        Reason.CLIENT_SUSPENDED,
        Initiator.CLIENT,
        True,
        "The client's machine slept",
        "The client's machine was asleep, so its connection fell silent.",
        "Reconnect after waking; a tunnel resumes by itself where its session could wait.",
    ),
    Cause(
        "client.frozen",
        Reason.PEER_UNRESPONSIVE,
        Initiator.CLIENT,
        False,
        "The client was stopped or frozen",
        "The client's process was stopped or frozen (Ctrl-Z, a debugger, a paused container) "
        "and stopped answering.",
        "Continue the process, and reconnect.",
    ),
    Cause(
        "client.starved",
        Reason.PEER_UNRESPONSIVE,
        Initiator.CLIENT,
        False,
        "The client got no CPU",
        "The client's machine was too busy to run the client, which stopped answering.",
        "Look at what uses the CPU of the client's machine.",
    ),
    Cause(
        "client.unresponsive",
        Reason.PEER_UNRESPONSIVE,
        Initiator.CLIENT,
        False,
        "The client stopped answering",
        "The client stopped answering although its machine still acknowledged data.",
        "Look for a frozen or starved client process.",
    ),
    Cause(
        "client.roamed",
        Reason.PATH_CHANGED,
        Initiator.NETWORK,
        False,
        "The client changed networks",
        "The client's machine moved to another network and lost the address that this "
        "connection used.",
        "Reconnect; a tunnel moves to the new network by itself.",
    ),
    Cause(
        "client.vpn_changed",
        Reason.PATH_CHANGED,
        Initiator.NETWORK,
        False,
        "The client's VPN came up or went down",
        "The client's way to us changed to or from a VPN, which broke the connection.",
        "Reconnect; start the VPN before connecting if it recurs.",
    ),
    Cause(
        "client.link_down",
        Reason.NETWORK_ERROR,
        Initiator.NETWORK,
        False,
        "The client's network went down",
        "The client's machine lost its network: no device or no route was left.",
        "Check the client's cable, Wi-Fi or modem, and reconnect when it is back.",
    ),
    Cause(
        "client.socket_destroyed",
        Reason.NETWORK_ERROR,
        Initiator.CLIENT,
        False,
        "The client's machine dropped the connection",
        "The client's own system dropped the connection's socket from below.",
        "Look for a firewall, a security program or an administrator that kills sockets there.",
    ),
)
