"""What happened on an SSH connection and in its sessions.

Law: see `evidence`: what was seen or said, never what was concluded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tether.attribution.evidence.fact import Fact
from tether.attribution.vocabulary import AccessRefusal, Party, Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSideClosed(Fact):
    """The program that the client's tether process serves (`ssh`) closed its side of the pipe.

    `signal` is the signal that the tether process received just before, 0 for none.
    """

    kind: ClassVar[str] = "local_side_closed"
    signal: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Authenticated(Fact):
    """The SSH client proved who it is."""

    kind: ClassVar[str] = "authenticated"
    user: str
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SshDisconnected(Fact):
    """SSH_MSG_DISCONNECT arrived (RFC 4253 section 11.1), with `open_sessions` still running."""

    kind: ClassVar[str] = "ssh_disconnected"
    by: Party
    code: int
    text: str = ""
    open_sessions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEnded(Fact):
    """A session's process ended; `open_sessions` are left on the same SSH connection.

    `cause` (a catalogue code) and `actor` are set where the agent itself ended the session for
    reasons of its own: a terminal that somebody killed, an attach that was refused.
    """

    kind: ClassVar[str] = "session_ended"
    exit_code: int | None = None
    exit_signal: str | None = None
    open_sessions: int
    cause: str = ""
    actor: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRefused(Fact):
    """A credential was not accepted."""

    kind: ClassVar[str] = "access_refused"
    why: AccessRefusal
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalDetached(Fact):
    """The client let go of a terminal that lives on; `open_sessions` are left on its connection."""

    kind: ClassVar[str] = "terminal_detached"
    by: Party
    open_sessions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRefused(Fact):
    """The agent refused what a client asked for (`what`), because the workspace's owner said so."""

    kind: ClassVar[str] = "policy_refused"
    policy: Policy
    what: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardServed(Fact):
    """The connection carried a forwarded connection; noted for the first one. `what` is its kind."""

    kind: ClassVar[str] = "forward_served"
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StdioForwardEnded(Fact):
    """The far end of an `ssh -W` (a jump) has closed, and no other forwarded connection is open.

    OpenSSH gives it the originator 127.0.0.1:65535, and leaves without SSH_MSG_DISCONNECT then.
    """

    kind: ClassVar[str] = "stdio_forward_ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class IdeChannelsClosed(Fact):
    """All connections of an IDE to its backend are closed, the last one by `by` (the agent stands
    for the backend), while the SSH connection lived on."""

    kind: ClassVar[str] = "ide_channels_closed"
    by: Party
    backend_running: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class IdeBackendGone(Fact):
    """An IDE's backend process ended while the IDE was attached to it.

    Status and signal are None where the system does not tell. `oom_kills` is by how much the
    `oom_kill` counter of its memory cgroup rose just before; None where there is none to read.
    """

    kind: ClassVar[str] = "ide_backend_gone"
    pid: int
    exit_code: int | None = None
    exit_signal: str | None = None
    oom_kills: int | None = None
