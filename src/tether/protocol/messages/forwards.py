"""What an agent records about forwarded connections and about the IDEs that use them.

Law: types only. Words that leave the process are plain strings here, so that a record of a newer
agent still decodes: read them as `ForwardKind` and `ForwardEnd` where they are known. Times are the
agent's wall clock, durations its monotonic one; `rx` is what came from the client, `tx` what went to
it. The structs carry tags of their own, ready to become items of a `Report`.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from tether.protocol.messages.fact_record import FactRecord


class ForwardKind(StrEnum):
    """Which way a connection is forwarded; the SSH channel types of RFC 4254 and OpenSSH."""

    DIRECT_TCPIP = "direct_tcpip"  # the client reaches a port (-L, -D, -W)
    DIRECT_STREAMLOCAL = "direct_streamlocal"  # the client reaches a UNIX socket (-L)
    FORWARDED_TCPIP = "forwarded_tcpip"  # a program in the workspace reaches the client (-R)
    FORWARDED_STREAMLOCAL = "forwarded_streamlocal"  # the same over a UNIX socket (-R)
    AGENT = "agent"  # a program in the workspace uses the client's ssh-agent (-A)
    X11 = "x11"  # a program in the workspace draws on the client's display (-X)


class ForwardEnd(StrEnum):
    """How a forwarded connection ended: which side stopped first, or why it never began."""

    CLIENT_CLOSED = "client_closed"
    WORKSPACE_CLOSED = "workspace_closed"  # the program in the workspace sent FIN
    WORKSPACE_RESET = "workspace_reset"  # … or RST, or its host became unreachable
    CONNECTION_ENDED = "connection_ended"  # the SSH connection ended under it
    REFUSED = "refused"  # nothing could be connected to
    BLOCKED = "blocked"  # policy does not allow it
    FAILED = "failed"  # anything else


class ForwardRecord(msgspec.Struct, frozen=True, kw_only=True, tag="forward", omit_defaults=True):
    """One forwarded connection: sent at its start (`ended_at` absent) and at its end."""

    connection_id: str
    forward_id: int
    """Counts up within the connection."""
    kind: str
    """A `ForwardKind` word."""
    destination: str
    """`host:port`, `[address]:port` or a path."""
    origin: str = ""
    started_at: float
    ended_at: float | None = None
    duration_s: float = 0.0
    end: str = ""
    """A `ForwardEnd` word."""
    cause: str = ""
    """A code of the cause catalogue, where it is more than `end` says."""
    detail: str = ""
    rx_bytes: int = 0
    tx_bytes: int = 0


class ForwardRollup(
    msgspec.Struct, frozen=True, kw_only=True, tag="forward_rollup", omit_defaults=True
):
    """Forwarded connections that have no record of their own, of one window."""

    connection_id: str
    kind: str
    destination: str
    """"*" for all those that were too many to be told apart."""
    since: float
    until: float
    started: int = 0
    ended: int = 0
    ends: dict[str, int] = {}
    """How often each `ForwardEnd` word came."""
    rx_bytes: int = 0
    tx_bytes: int = 0
    longest_s: float = 0.0


class IdeChannel(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One forwarded connection of an IDE session."""

    connection_id: str
    destination: str
    started_at: float
    ended_at: float
    end: str
    rx_bytes: int = 0
    tx_bytes: int = 0


class IdeSessionRecord(
    msgspec.Struct, frozen=True, kw_only=True, tag="ide_session", omit_defaults=True
):
    """An IDE at its backend: sent at its start (`ended_at` absent) and at its end."""

    session_id: str
    connection_id: str
    """The SSH connection that it began on; `IdeChannel.connection_id` tells of more."""
    session_type: str
    """A `ConnectionType` word."""
    backend_pid: int
    backend_marker: str
    started_at: float
    ended_at: float | None = None
    caused_by: str = ""
    """The SSH connection whose end explains this one's, "" where it ended by itself."""
    facts: list[FactRecord] = []
    symptoms: list[FactRecord] = []
    channels: list[IdeChannel] = []
    """The first ones; `channels_total` counts all."""
    channels_total: int = 0
    rx_bytes: int = 0
    tx_bytes: int = 0


ForwardItem = ForwardRecord | ForwardRollup
"""What a `ForwardLedger` emits."""


STDIO_ORIGIN = "127.0.0.1:65535"
"""What OpenSSH names as the originator of the one connection of `ssh -W` (channels.c)."""


def destination_of(host: str, port: int) -> str:
    """`host:port`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
