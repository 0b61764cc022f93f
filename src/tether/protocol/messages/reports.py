"""What agents and clients report, as items of a journal: connections, sessions, forwards, files, paths.

Law: types only, bounded by whoever fills them. Words that leave the process are plain strings here, so
that an item of a newer reporter still decodes: read them as the enumeration that their docstring names,
where it is known. Moments are the reporter's wall clock, durations its monotonic one. `rx` is what came
from the client, `tx` what went to it. The tag of a struct is its kind on the wire.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

import msgspec

from tether.protocol.messages.base import FactRecord, Message

# -- connections and sessions -------------------------------------------------------------


class Opened(msgspec.Struct, frozen=True, kw_only=True, tag="opened", omit_defaults=True):
    """A connection came up."""

    connection_id: str
    at: float


class SessionRecord(msgspec.Struct, frozen=True, kw_only=True, tag="session", omit_defaults=True):
    """A session within a connection: sent at its start (`ended_at` absent) and at its end."""

    connection_id: str
    session_id: str
    session_type: str
    """A `ConnectionType` word."""
    started_at: float
    pty: bool = False
    subsystem: str = ""
    app: str = ""
    """The program behind it, as `agent.commands.session_type` names it (`cursor`); "" is not known."""
    ended_at: float | None = None
    process_ended_at: float | None = None
    """Where its process outlived it: when that ended, with its status."""
    exit_code: int | None = None
    exit_signal: str | None = None


class Ended(msgspec.Struct, frozen=True, kw_only=True, tag="ended", omit_defaults=True):
    """A connection ended, with everything this party knows about why."""

    connection_id: str
    at: float
    facts: list[FactRecord]
    symptoms: list[FactRecord] = []
    rx_bytes: int = 0
    tx_bytes: int = 0


# -- forwarded connections, and the IDEs that use them --------------------------------------


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
"""What is known of a forwarded connection, or of many."""


STDIO_ORIGIN = "127.0.0.1:65535"
"""What OpenSSH names as the originator of the one connection of `ssh -W` (channels.c)."""


def destination_of(host: str, port: int) -> str:
    """`host:port`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


# -- files that a session moved or changed --------------------------------------------------


class FileAct(StrEnum):
    """What was asked to be done to a path."""

    READ = "read"
    WRITE = "write"
    CREATE = "create"
    SET_ATTRIBUTES = "set_attributes"
    REMOVE = "remove"
    MAKE_DIRECTORY = "make_directory"
    REMOVE_DIRECTORY = "remove_directory"
    RENAME = "rename"
    SYMLINK = "symlink"
    HARD_LINK = "hard_link"


class FileOperation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One request, or the same one several times. `act` is a `FileAct` word."""

    act: str
    path: str
    target: str = ""
    """Rename: the new name. Links: what they lead to."""
    first_at: float
    count: int = 1


class FileOperations(
    msgspec.Struct, frozen=True, kw_only=True, tag="file_operations", omit_defaults=True
):
    """The file operations of one session."""

    connection_id: str
    session_id: str
    program: str
    """"sftp", "scp" or "rsync"; operations are known of sftp only."""
    operations: list[FileOperation] = []
    left_out: int = 0
    """Requests that were too many to be kept."""
    complete: bool = True
    """False where the stream could not be followed to its end."""


# -- what happened to a tunnel's carriers ---------------------------------------------------


class PathWord(StrEnum):
    """What happened to a tunnel's carriers."""

    USED = "used"  # the first carrier, or another one took over without a gap
    LOST = "lost"  # a carrier ended that was not the one in use
    DETACHED = "detached"  # the carrier in use ended, and no other is there
    RESUMED = "resumed"  # a carrier is in use again, after `gap_s`


class PathRecord(msgspec.Struct, frozen=True, kw_only=True, tag="path", omit_defaults=True):
    """One path event. `how` and the rest of the stream's end are set for `lost` and `detached`."""

    connection_id: str
    at: float
    event: str
    """A `PathWord` word."""
    carrier: int
    method: str
    """A `ConnectionMethod` word."""
    where: str = ""
    """The DERP region, or the endpoint."""
    peer: str = ""
    """Whose stream ended: the relay's own, or the other end's (as the relay or we saw it)."""
    how: str = ""
    """A `StreamEnd` word."""
    errno: str = ""
    gap_s: float = 0.0
    resent_bytes: int = 0


# -- the states of an agent's life ----------------------------------------------------------


class LifecycleState(StrEnum):
    """In the order in which they may be entered; any of them may be left out."""

    CREATED = "created"  # the agent runs, and has not heard of its workspace
    STARTING = "starting"  # the server has welcomed it
    READY = "ready"  # people may come
    SHUTTING_DOWN = "shutting_down"  # sessions are being ended
    SHUTDOWN_TIMEOUT = "shutdown_timeout"  # it is over, and the stop script took too long
    SHUTDOWN_ERROR = "shutdown_error"  # it is over, and the stop script failed
    OFF = "off"  # it is over


_ORDER = tuple(LifecycleState)
FINAL = frozenset(
    {LifecycleState.SHUTDOWN_TIMEOUT, LifecycleState.SHUTDOWN_ERROR, LifecycleState.OFF}
)


class LifecycleRecord(
    msgspec.Struct, frozen=True, kw_only=True, tag="lifecycle", omit_defaults=True
):
    """An agent entered a state. It is of no connection, so that `connection_id` is empty."""

    instance_id: str
    """The run of the agent."""
    at: float
    """Unix seconds, the agent's clock."""
    state: str
    """A `LifecycleState` word."""
    connection_id: str = ""


def may_follow(before: LifecycleState | None, state: LifecycleState) -> bool:
    """Whether `state` may be entered after `before` (None: nothing yet)."""
    if state is LifecycleState.CREATED:
        return before is None or before in FINAL
    if before is None or before in FINAL:
        return False
    return _ORDER.index(state) > _ORDER.index(before)


# -- the report -----------------------------------------------------------------------------


class UnknownItem(msgspec.Struct, frozen=True, kw_only=True, tag="unknown", omit_defaults=True):
    """Stands where a newer peer's report has an item that this version does not know, so that the
    numbers of the others stay right. Never sent."""

    connection_id: str = ""


ReportItem: TypeAlias = (
    Opened
    | SessionRecord
    | Ended
    | ForwardRecord
    | ForwardRollup
    | IdeSessionRecord
    | FileOperations
    | PathRecord
    | LifecycleRecord
    | UnknownItem
)


class Report(Message, frozen=True, kw_only=True):
    """Items of a journal, in order. `first_seq` is the journal's number of the first of them."""

    journal_id: str
    first_seq: int
    items: list[ReportItem]


class ReportAck(Message, frozen=True, kw_only=True):
    """Everything up to and including `seq` is committed; forget it."""

    journal_id: str
    seq: int
