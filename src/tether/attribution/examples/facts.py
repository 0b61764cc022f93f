"""What examples are made of: cases of each type of connection, and facts that many of them share.

Law: data only.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tether.attribution import evidence as ev
from tether.attribution.case import Case
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import (
    ConnectType,
    DialStage,
    HandshakeStage,
    Party,
    Reach,
    StreamEnd,
    Vantage,
)

LOGGED_IN = ev.Authenticated(
    vantage=Vantage.AGENT, at=0.5, user="alice", method="publickey", client="OpenSSH_9.2p1"
)
PIPE_CLOSED = ev.LocalSideClosed(vantage=Vantage.CLIENT, at=3.0)


def a2c(*facts: Evidence) -> Case:
    """The end of a connection between an agent and a client."""
    return Case(ConnectType.AGENT_TO_CLIENT, facts)


def s2a(*facts: Evidence) -> Case:
    """The end of an agent's control link."""
    return Case(ConnectType.SERVER_TO_AGENT, facts)


def c2s(*facts: Evidence) -> Case:
    """The end of a client's control link."""
    return Case(ConnectType.CLIENT_TO_SERVER, facts)


def exited(code: int | None, signal: str | None = None) -> ev.SessionEnded:
    return ev.SessionEnded(
        vantage=Vantage.AGENT, at=2.0, exit_code=code, exit_signal=signal, open_sessions=0
    )


def left_at(stage: HandshakeStage) -> ev.HandshakeUnfinished:
    return ev.HandshakeUnfinished(
        vantage=Vantage.AGENT, at=2.0, stage=stage, client="OpenSSH_9.2p1"
    )


def ssh_bye(open_sessions: int, code: int = 11) -> ev.SshDisconnected:
    return ev.SshDisconnected(
        vantage=Vantage.AGENT, at=3.0, by=Party.CLIENT, code=code, open_sessions=open_sessions
    )


def ended(
    peer: Party,
    how: StreamEnd,
    vantage: Vantage = Vantage.RELAY,
    *,
    silence_s: float | None = None,
    idle_s: float | None = None,
) -> ev.StreamEnded:
    return ev.StreamEnded(
        vantage=vantage, at=3.0, peer=peer, how=how, silence_s=silence_s, idle_s=idle_s
    )


def behind_a_proxy(fact: Evidence) -> Evidence:
    """`fact` as an observer tells it that knows of a proxy in between."""
    if isinstance(fact, ev.StreamEnded):
        return replace(fact, reach=Reach.PROXIED, proxy="10.3.0.9")
    if isinstance(fact, ev.TcpCounters | ev.CarrierEnded):
        return replace(fact, reach=Reach.PROXIED)
    return fact


def counters(
    vantage: Vantage,
    peer: Party,
    *,
    acked_ms: int,
    retransmits: int = 0,
    unacked: int = 0,
    lost: int = 0,
    pmtu: int = 1500,
) -> ev.TcpCounters:
    return ev.TcpCounters(
        vantage=vantage,
        at=3.0,
        peer=peer,
        retransmits=retransmits,
        probes=0,
        unacked=unacked,
        total_retrans=retransmits,
        last_data_recv_ms=46_000,
        last_ack_recv_ms=acked_ms,
        pmtu=pmtu,
        rtt_us=400,
        lost=lost,
        snd_mss=1448,
    )


def stalled(
    party: Party, *, cpu_s: float | None = 0.0, waited_s: float | None = 0.0, gap_s: float = 45.0
) -> ev.LoopStalled:
    return ev.LoopStalled(
        vantage=Vantage(str(party)),
        at=2.5,
        party=party,
        gap_s=gap_s,
        cpu_s=cpu_s,
        waited_s=waited_s,
    )


def returned(party: Party, *, same_address: bool | None = True) -> ev.PeerReturned:
    return ev.PeerReturned(
        vantage=Vantage.SERVER,
        at=4.0,
        party=party,
        after_s=0.5,
        same_run=True,
        same_address=same_address,
        same_boot=True,
    )


def redial(stage: DialStage, party: Party = Party.CLIENT, *, status: int = 0) -> ev.RedialFailed:
    return ev.RedialFailed(
        vantage=Vantage(str(party)),
        at=5.0,
        party=party,
        peer=Party.SERVER,
        stage=stage,
        status=status,
    )


def died(party: Party, **found: Any) -> ev.PreviousRunDied:
    return ev.PreviousRunDied(
        vantage=Vantage(str(party)),
        at=9.0,
        party=party,
        **{"host_rebooted": False, **found},
    )


def said(by: Party, cause: str) -> ev.GoodbyeSaid:
    return ev.GoodbyeSaid(vantage=Vantage(str(by)), at=3.0, by=by, cause=cause)


def backend(
    code: int | None = None, signal: str | None = None, oom_kills: int | None = 0
) -> ev.IdeBackendGone:
    return ev.IdeBackendGone(
        vantage=Vantage.AGENT,
        at=2.0,
        pid=4242,
        exit_code=code,
        exit_signal=signal,
        oom_kills=oom_kills,
    )


def ide_closed(by: Party) -> ev.IdeChannelsClosed:
    return ev.IdeChannelsClosed(vantage=Vantage.AGENT, at=2.0, by=by, backend_running=True)
