"""What a byte stream did, and what the kernel counted of it.

Law: see `evidence`: what was seen or said, never what was concluded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tether.attribution.evidence.fact import Fact
from tether.attribution.vocabulary import ConnectionMethod, Party, StreamEnd


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEnded(Fact):
    """The stream to `peer` stopped without a goodbye. `silence_s` is how long nothing was heard,
    `idle_s` how long nothing had gone either way (None where it was not kept)."""

    kind: ClassVar[str] = "stream_ended"
    peer: Party
    how: StreamEnd
    errno: str = ""
    close_code: int | None = None
    silence_s: float | None = None
    idle_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CutWhenIdle(Fact):
    """Of the streams that one run of `party` opened one after the other, `cuts` were cut, this one
    included, each after nothing had gone either way for `idle_s` seconds, and none but the first had
    outlived such a silence before."""

    kind: ClassVar[str] = "cut_when_idle"
    party: Party
    cuts: int
    idle_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CarrierEnded(Fact):
    """A carrier of a tunnel stopped: a path event, no end of the tunnel. `where` is a DERP region or
    an endpoint, `peer` whose stream it was, `said` the cause that a relay declared."""

    kind: ClassVar[str] = "carrier_ended"
    carrier: int
    method: ConnectionMethod
    where: str = ""
    peer: Party
    how: StreamEnd
    errno: str = ""
    silence_s: float | None = None
    said: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelResumed(Fact):
    """A tunnel went on over this carrier, after `gap_s` without any."""

    kind: ClassVar[str] = "tunnel_resumed"
    carrier: int
    method: ConnectionMethod
    where: str = ""
    gap_s: float
    resent_bytes: int = 0


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
    backoff: int = 0
    lost: int = 0
    snd_mss: int = 0
    notsent_bytes: int = 0


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
    """One logical stream of a link (`coordination`) ended for a cause of its own, while the link
    lived on. It tells nothing about the link's own end."""

    kind: ClassVar[str] = "logical_stream_ended"
    stream: str
    cause: str
    actor: str = ""
    detail: str = ""
