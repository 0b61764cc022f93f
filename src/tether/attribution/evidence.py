"""Facts: who saw what, and when. A closed union of frozen dataclasses.

Law: a fact is what a party saw or said, never what it concluded. Facts carry the observer's wall
clock (`at`, unix seconds) for people to read; rules never subtract the clocks of two observers.
A kind is listed once, in `Evidence`; how facts travel and are stored is `records`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from tether.attribution.vocabulary import (
    AccessRefusal,
    ConnectionMethod,
    DialStage,
    Element,
    HandshakeStage,
    OomVictim,
    Party,
    Policy,
    Reach,
    Resource,
    StreamEnd,
    Vantage,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """What every fact has: its observer (`vantage`), and the observer's wall clock in unix seconds."""

    kind: ClassVar[str] = "fact"
    vantage: Vantage
    at: float


# -- what a program said, did, or suffered -----------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class GoodbyeSaid(Fact):
    """`by` said why it would leave before it closed. `cause` is a code of the catalogue."""

    kind: ClassVar[str] = "goodbye_said"
    by: Party
    cause: str
    actor: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalReceived(Fact):
    """`party` received a signal; `sender` reads "pid 1 uid 0", "" where the kernel does not tell."""

    kind: ClassVar[str] = "signal_received"
    party: Party
    signal: int
    sender: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviousRunDied(Fact):
    """The next run of `party` found that its last one ended without a clean stop.

    `host_rebooted`, `container_changed` and `upgraded` say whether the machine's boot, the container and
    the program are others now. `signal` and `exit_status` are what the parent or the crash handlers saw
    (0 and None where nobody tells; 9 also where those handlers, which see every other signal, saw none).
    `sender` had sent the signal to stop before. `core`: it left one. `oom_kills` is by how much the
    `oom_kill` counter of its memory cgroup rose, without the processes that the kernel's log names as
    others; `oom_named`: that log names this very process.
    """

    kind: ClassVar[str] = "previous_run_died"
    party: Party
    host_rebooted: bool
    last_alive_at: float | None = None
    signal: int = 0
    sender: str = ""
    exit_status: int | None = None
    core: bool = False
    oom_kills: int | None = None
    oom_named: bool = False
    container_changed: bool = False
    upgraded: bool = False
    disk_full: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NeverReturned(Fact):
    """`party` went away and did not come back within `waited_s` seconds."""

    kind: ClassVar[str] = "never_returned"
    party: Party
    waited_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Superseded(Fact):
    """A newer connection with the same identity took this one's place. `turns` counts how often these
    two took it from each other lately."""

    kind: ClassVar[str] = "superseded"
    by_instance: str
    turns: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class InternalFailure(Fact):
    """`party` failed while it handled this connection: a bug of ours."""

    kind: ClassVar[str] = "internal_failure"
    party: Party
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportMissing(Fact):
    """`party` is back, and its journal, which would tell of this connection, was lost."""

    kind: ClassVar[str] = "report_missing"
    party: Party


@dataclass(frozen=True, slots=True, kw_only=True)
class IntentRecorded(Fact):
    """`before_s` seconds before the end, `actor` had asked the server for something that ends it."""

    kind: ClassVar[str] = "intent_recorded"
    intent: str
    cause: str
    before_s: float
    actor: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedTogether(Fact):
    """Of the connections that share an `element` with this one, `ended` ended within one window (this
    one is counted), and `alive` lived on."""

    kind: ClassVar[str] = "ended_together"
    element: Element
    ended: int
    alive: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighbourEnded(Fact):
    """Another connection of `party` ended in the same outage, `before_s` seconds before this one, for
    `cause`, as both of its ends tell."""

    kind: ClassVar[str] = "neighbour_ended"
    party: Party
    cause: str
    before_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueOverflowed(Fact):
    """`party` did not take what was sent to it, until `queue` reached its `limit`."""

    kind: ClassVar[str] = "queue_overflowed"
    party: Party
    queue: str
    limit: int


# -- what happened on an SSH connection and in its sessions ------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSideClosed(Fact):
    """The program that the client's tether process serves (`ssh`) closed its side of the pipe.

    `signal` is the number of the signal that the tether process received just before, 0 for none.
    `unanswered_s` is for how long the agent had acknowledged nothing of what it had been sent, 0 where
    nothing waited for that (None where it was not kept).
    """

    kind: ClassVar[str] = "local_side_closed"
    signal: int = 0
    unanswered_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Authenticated(Fact):
    """The SSH client proved who it is. `client` is the software that it names in its version string
    (RFC 4253 section 4.2): "OpenSSH_9.2p1"."""

    kind: ClassVar[str] = "authenticated"
    user: str
    method: str
    client: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandshakeUnfinished(Fact):
    """The SSH connection ended before its client was let in. `stage` is how far the two had come.

    `client` is as in `Authenticated`, "" where it had not said so yet. `methods` are the authentication
    methods that it tried, with commas between them.
    """

    kind: ClassVar[str] = "handshake_unfinished"
    stage: HandshakeStage
    client: str = ""
    methods: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoCommonAlgorithm(Fact):
    """The SSH client and the agent have no algorithm for `purpose` in common (RFC 4253 section 7.1).

    `theirs` are those of the client, `ours` those of the agent, each with commas between them.
    """

    kind: ClassVar[str] = "no_common_algorithm"
    purpose: str
    theirs: str
    ours: str


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

    `cause` (a code of the catalogue) and `actor` are set where the agent ended the session itself: a
    terminal that somebody killed, an attach that was refused.
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
    """The client detached from a terminal that lives on; `open_sessions` are left on the connection."""

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
    """The SSH connection carried its first forwarded connection, of the kind `what`."""

    kind: ClassVar[str] = "forward_served"
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StdioForwardEnded(Fact):
    """The far end of an `ssh -W` (a jump) has closed, and no other forwarded connection is open.

    Such a forward is known by its originator, 127.0.0.1:65535; OpenSSH leaves after it without
    SSH_MSG_DISCONNECT.
    """

    kind: ClassVar[str] = "stdio_forward_ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class IdeChannelsClosed(Fact):
    """All connections of an IDE to its backend are closed, while the SSH connection lived on. `by`
    closed the last one, where the agent stands for the backend."""

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


# -- what a byte stream did, and what the kernel counted of it ---------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEnded(Fact):
    """The stream to `peer` stopped without a goodbye.

    `silence_s` is how long nothing was heard, where that ended it (on a tunnel's carrier: not even by
    the kernel). `heard_ago_s` is how long before the end the peer's last byte had come, `idle_s` how
    long nothing had gone either way (each None where it was not kept). `reach` says how far the observer
    could see, and `proxy` the address of what is in between.
    """

    kind: ClassVar[str] = "stream_ended"
    peer: Party
    how: StreamEnd
    errno: str = ""
    close_code: int | None = None
    silence_s: float | None = None
    idle_s: float | None = None
    heard_ago_s: float | None = None
    reach: Reach = Reach.UNKNOWN
    proxy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CutWhenIdle(Fact):
    """One run of `party` opened one stream after the other, and `cuts` of them, this one included, were
    cut after `idle_s` seconds in which nothing went either way. Only the first of them had ever lived
    through such a silence."""

    kind: ClassVar[str] = "cut_when_idle"
    party: Party
    cuts: int
    idle_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CarrierEnded(Fact):
    """A carrier of a tunnel stopped, which does not end the tunnel.

    `where` is a DERP region or an endpoint, `peer` is the other end of the carrier's stream, and `said`
    is the cause that a relay declared. `reach` says how far the observer could see.
    """

    kind: ClassVar[str] = "carrier_ended"
    carrier: int
    method: ConnectionMethod
    where: str = ""
    peer: Party
    how: StreamEnd
    errno: str = ""
    silence_s: float | None = None
    said: str = ""
    reach: Reach = Reach.UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelResumed(Fact):
    """A tunnel went on over this carrier, after `gap_s` seconds without any."""

    kind: ClassVar[str] = "tunnel_resumed"
    carrier: int
    method: ConnectionMethod
    where: str = ""
    gap_s: float
    resent_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpCounters(Fact):
    """TCP_INFO of the stream to `peer` at its end (linux/tcp.h; `_ms` in milliseconds, `_us` in
    microseconds). `reach` says whose kernel that is about."""

    kind: ClassVar[str] = "tcp_counters"
    peer: Party
    retransmits: int
    probes: int
    unacked: int
    total_retrans: int
    last_data_recv_ms: int
    last_ack_recv_ms: int
    pmtu: int
    rtt_us: int
    backoff: int = 0
    lost: int = 0
    snd_mss: int = 0
    notsent_bytes: int = 0
    reach: Reach = Reach.UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolViolated(Fact):
    """`by` sent bytes that mean nothing in the protocol."""

    kind: ClassVar[str] = "protocol_violated"
    by: Party
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HandshakeTimedOut(Fact):
    """`by` connected and then did not finish its handshake within `after_s` seconds."""

    kind: ClassVar[str] = "handshake_timed_out"
    by: Party
    after_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LogicalStreamEnded(Fact):
    """One logical stream of a link (`coordination`) ended for a cause of its own while the link lived
    on. This says nothing about the end of the link."""

    kind: ClassVar[str] = "logical_stream_ended"
    stream: str
    cause: str
    actor: str = ""
    detail: str = ""


# -- what happened to a machine, and to our process on it --------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstance(Fact):
    """What happened to the machine, the process or the network of `party`, the observer itself.

    A collector hands these in with an end, where they lie within the connection's last minute or its
    silence. `at` is when it was over: the moment at which it is handed in, less the time since then by
    the monotonic clock. So it can be subtracted from the `at` of an end of the same observer, whatever
    became of the wall clock in between; `staleness` does.
    """

    party: Party


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspended(Circumstance):
    """The machine slept for `gap_s` seconds: its boot time went on, its monotonic clock did not."""

    kind: ClassVar[str] = "suspended"
    gap_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopStalled(Circumstance):
    """The observer's event loop did not run for `gap_s` seconds, while the machine was awake.

    In that time its thread used a CPU for `cpu_s` seconds and waited for one for `waited_s`, and its
    control group was throttled for `throttled_s` (each None where the kernel does not tell).
    """

    kind: ClassVar[str] = "loop_stalled"
    gap_s: float
    cpu_s: float | None = None
    waited_s: float | None = None
    throttled_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockStepped(Circumstance):
    """Somebody set the wall clock forward by `delta_s` seconds (back where it is negative)."""

    kind: ClassVar[str] = "clock_stepped"
    delta_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pressure(Circumstance):
    """In `full_avg10` per cent of ten seconds all tasks stood still for want of `resource` (PSI)."""

    kind: ClassVar[str] = "pressure"
    resource: Resource
    full_avg10: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OomKills(Fact):
    """The kernel killed `count` processes of the control group `scope` for want of memory; `victim`
    tells whose they were."""

    kind: ClassVar[str] = "oom_kills"
    party: Party
    count: int
    victim: OomVictim
    scope: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhausted(Circumstance):
    """`resource` ran out (ENOSPC, EMFILE, EAGAIN of fork). `where` is a path or a limit."""

    kind: ClassVar[str] = "exhausted"
    resource: Resource
    where: str = ""


# -- what the network did, as a party's own kernel, or its next dial, told it ------------


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressChanged(Circumstance):
    """An address was removed or added. `ours`: the stream ran from the one that was removed."""

    kind: ClassVar[str] = "address_changed"
    removed: str = ""
    added: str = ""
    ours: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteChanged(Circumstance):
    """The route to the peer changed, and leads over `interface` now ("" where there is none).

    `tunnel`: that interface, or the one before it, is a VPN's.
    """

    kind: ClassVar[str] = "route_changed"
    interface: str = ""
    tunnel: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkChanged(Circumstance):
    """The interface that the stream ran over lost its carrier (`up` false) or got it back."""

    kind: ClassVar[str] = "link_changed"
    interface: str
    up: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RedialFailed(Fact):
    """`party` dialled `peer` after the end, and failed at `stage`. `status` is an HTTP status or 0."""

    kind: ClassVar[str] = "redial_failed"
    party: Party
    peer: Party
    stage: DialStage
    error: str = ""
    status: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OthersAnswered(Fact):
    """When the stream had fallen silent, `party` asked the `asked` other peers that it talks to on
    streams of their own, and `answered` of them did so at once."""

    kind: ClassVar[str] = "others_answered"
    party: Party
    asked: int
    answered: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerReturned(Fact):
    """`party` dialled again after `after_s` seconds.

    Whether that was the same run of its program, from the same address, and on the same boot of its
    machine (None where that cannot be told).
    """

    kind: ClassVar[str] = "peer_returned"
    party: Party
    after_s: float
    same_run: bool
    same_address: bool | None = None
    same_boot: bool | None = None


# -- the union -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownFact(Fact):
    """A fact of a newer peer, kept whole. No rule reads it."""

    kind: ClassVar[str] = "unknown_fact"
    original_kind: str
    values: tuple[tuple[str, Any], ...]


Evidence = (
    GoodbyeSaid
    | LocalSideClosed
    | Authenticated
    | SshDisconnected
    | SessionEnded
    | StreamEnded
    | TcpCounters
    | SignalReceived
    | ProtocolViolated
    | AccessRefused
    | HandshakeTimedOut
    | PreviousRunDied
    | NeverReturned
    | Superseded
    | InternalFailure
    | ReportMissing
    | TerminalDetached
    | PolicyRefused
    | ForwardServed
    | StdioForwardEnded
    | IdeChannelsClosed
    | IdeBackendGone
    | Suspended
    | LoopStalled
    | ClockStepped
    | Pressure
    | OomKills
    | Exhausted
    | AddressChanged
    | RouteChanged
    | LinkChanged
    | RedialFailed
    | OthersAnswered
    | PeerReturned
    | IntentRecorded
    | EndedTogether
    | NeighbourEnded
    | QueueOverflowed
    | LogicalStreamEnded
    | CarrierEnded
    | CutWhenIdle
    | TunnelResumed
    | HandshakeUnfinished
    | NoCommonAlgorithm
    | UnknownFact
)

KINDS: Mapping[str, type[Fact]] = {
    cls.kind: cls for cls in Evidence.__args__ if cls is not UnknownFact
}

F = TypeVar("F", bound=Fact)
