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
)
