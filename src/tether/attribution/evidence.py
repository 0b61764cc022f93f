"""Facts: who saw what, and when. A closed union of frozen dataclasses.

Law: a fact is what a party saw or said, never what it concluded. Facts carry the observer's wall
clock (`at`, unix seconds) for people to read; rules never subtract the clocks of two observers.
`to_record` and `from_record` are the one form in which facts travel and are stored; a kind of a newer
peer survives the round trip as `UnknownFact`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, TypeVar, cast, get_type_hints

from tether.attribution.vocabulary import AccessRefusal, Party, Policy, StreamEnd, Vantage


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """What every fact has: its observer, and the observer's wall clock in unix seconds."""

    kind: ClassVar[str] = "fact"
    vantage: Vantage
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GoodbyeSaid(Fact):
    """A party said, before it closed, why it would. `cause` is a code of the catalogue."""

    kind: ClassVar[str] = "goodbye_said"
    by: Party
    cause: str
    actor: str = ""
    detail: str = ""


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
class StreamEnded(Fact):
    """The stream to `peer` stopped without a goodbye. `silence_s` is how long nothing was heard."""

    kind: ClassVar[str] = "stream_ended"
    peer: Party
    how: StreamEnd
    errno: str = ""
    close_code: int | None = None
    silence_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpCounters(Fact):
    """TCP_INFO of the stream to `peer` at its end (linux/tcp.h; times in milliseconds)."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalReceived(Fact):
    """`party` was sent a signal; `sender` is "pid 1 uid 0" where the kernel told us."""

    kind: ClassVar[str] = "signal_received"
    party: Party
    signal: int
    sender: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolViolated(Fact):
    """`by` sent bytes that mean nothing in the protocol."""

    kind: ClassVar[str] = "protocol_violated"
    by: Party
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRefused(Fact):
    """A credential was not accepted."""

    kind: ClassVar[str] = "access_refused"
    why: AccessRefusal
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandshakeTimedOut(Fact):
    """`by` connected and then did not finish its handshake within `after_s` seconds."""

    kind: ClassVar[str] = "handshake_timed_out"
    by: Party
    after_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviousRunDied(Fact):
    """The next start of `party` found that its last run ended without a clean stop."""

    kind: ClassVar[str] = "previous_run_died"
    party: Party
    host_rebooted: bool
    last_alive_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NeverReturned(Fact):
    """`party` was gone and did not come back within `waited_s` seconds."""

    kind: ClassVar[str] = "never_returned"
    party: Party
    waited_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Superseded(Fact):
    """A newer connection of the same identity took this one's place."""

    kind: ClassVar[str] = "superseded"
    by_instance: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InternalFailure(Fact):
    """`party` failed while it handled this connection: a bug of ours."""

    kind: ClassVar[str] = "internal_failure"
    party: Party
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportMissing(Fact):
    """`party` is back and knows nothing of this connection: its journal was lost."""

    kind: ClassVar[str] = "report_missing"
    party: Party


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
    | UnknownFact
)

KINDS: Mapping[str, type[Fact]] = {
    cls.kind: cls for cls in Evidence.__args__ if cls is not UnknownFact
}

F = TypeVar("F", bound=Fact)
_COMMON = ("vantage", "at")


def to_record(fact: Evidence) -> dict[str, Any]:
    """`fact` as plain data: `{"kind", "vantage", "at", "values": {…}}`."""
    if isinstance(fact, UnknownFact):
        kind, values = fact.original_kind, dict(fact.values)
    else:
        kind = fact.kind
        values = {
            field.name: _plain(getattr(fact, field.name))
            for field in dataclasses.fields(fact)
            if field.name not in _COMMON
        }
    return {"kind": kind, "vantage": str(fact.vantage), "at": fact.at, "values": values}


def from_record(record: Mapping[str, Any]) -> Evidence:
    """The fact that `record` holds; an `UnknownFact` where its kind or its words are not ours.

    Raises:
        ValueError: `record` has no known vantage or no time: it is not a fact at all.
    """
    try:
        vantage, at = Vantage(record["vantage"]), _finite(float(record["at"]))
        kind, values = str(record["kind"]), dict(record.get("values") or {})
    except (KeyError, TypeError, ValueError, OverflowError) as wrong:
        raise ValueError(f"not a fact: {wrong!r}") from wrong
    cls = KINDS.get(kind)
    if cls is not None:
        try:
            return cast(Evidence, _build(cls, vantage, at, values))
        except (TypeError, ValueError, OverflowError):
            pass
    return UnknownFact(
        vantage=vantage,
        at=at,
        original_kind=kind,
        values=tuple(sorted(_storable(values).items())),
    )


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, StrEnum) else value


def _finite(number: float) -> float:
    """`number`, unless it is none: infinity and NaN have no place in JSON and no order."""
    if not math.isfinite(number):
        raise ValueError(f"{number} is no time or measure")
    return number


def _storable(value: Any) -> Any:
    """`value` as JSON can hold it: what a newer peer sends must not break a log line or a row."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(name): _storable(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(inner) for inner in value]
    return repr(value)


def _build(cls: type[Fact], vantage: Vantage, at: float, values: Mapping[str, Any]) -> Fact:
    hints = get_type_hints(cls)
    known = {field.name for field in dataclasses.fields(cls)} - set(_COMMON)
    given = {}
    for name in known & values.keys():
        given[name] = _checked(hints[name], values[name])
    return cls(vantage=vantage, at=at, **given)


def _checked(hint: Any, value: Any) -> Any:
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return hint(value)
    options = getattr(hint, "__args__", (hint,))
    if float in options and isinstance(value, int | float) and not isinstance(value, bool):
        return _finite(float(value))
    if not isinstance(value, options) or (isinstance(value, bool) and bool not in options):
        raise TypeError(f"expected {hint}, got {type(value).__name__}")
    return value
