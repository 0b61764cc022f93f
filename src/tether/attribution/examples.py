"""One reachable case per rule, in the order of the table. Docs and tests read them.

Law: data only. A rule that is added gets its example at the same place.
"""

from __future__ import annotations

from tether.attribution import evidence as ev
from tether.attribution.predicates import BLOCKED_EXIT_CODE, Case
from tether.attribution.vocabulary import (
    AccessRefusal,
    ConnectType,
    Party,
    Policy,
    StreamEnd,
    Vantage,
)

_A2C, _S2A = ConnectType.AGENT_TO_CLIENT, ConnectType.SERVER_TO_AGENT
_IN = ev.Authenticated(vantage=Vantage.AGENT, at=0.5, user="alice", method="publickey")
_CLOSED = ev.LocalSideClosed(vantage=Vantage.CLIENT, at=3.0)


def _exited(code: int | None, signal: str | None = None) -> ev.SessionEnded:
    return ev.SessionEnded(
        vantage=Vantage.AGENT, at=2.0, exit_code=code, exit_signal=signal, open_sessions=0
    )


def _ssh_bye(open_sessions: int, code: int = 11) -> ev.SshDisconnected:
    return ev.SshDisconnected(
        vantage=Vantage.AGENT, at=3.0, by=Party.CLIENT, code=code, open_sessions=open_sessions
    )


def _ended(peer: Party, how: StreamEnd, vantage: Vantage = Vantage.RELAY) -> ev.StreamEnded:
    return ev.StreamEnded(vantage=vantage, at=3.0, peer=peer, how=how)


def _died(party: Party, rebooted: bool = False) -> ev.PreviousRunDied:
    return ev.PreviousRunDied(
        vantage=Vantage(str(party)), at=9.0, party=party, host_rebooted=rebooted
    )


def _said(by: Party, cause: str) -> ev.GoodbyeSaid:
    return ev.GoodbyeSaid(vantage=Vantage(str(by)), at=3.0, by=by, cause=cause)


def _backend(
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


def _ide_closed(by: Party) -> ev.IdeChannelsClosed:
    return ev.IdeChannelsClosed(vantage=Vantage.AGENT, at=2.0, by=by, backend_running=True)


EXAMPLES: tuple[Case, ...] = (
    Case(
        _A2C,
        (
            _IN,
            ev.InternalFailure(vantage=Vantage.AGENT, at=2.0, party=Party.AGENT, what="KeyError"),
            _ended(Party.CLIENT, StreamEnd.EOF),
        ),
    ),
    Case(
        _S2A,
        (
            ev.Superseded(vantage=Vantage.SERVER, at=2.0, by_instance="i-2"),
            _said(Party.AGENT, "agent.shutdown"),
        ),
    ),
    Case(
        _A2C,
        (
            ev.ProtocolViolated(
                vantage=Vantage.AGENT, at=2.0, by=Party.CLIENT, what="bad SSH version"
            ),
            _ended(Party.CLIENT, StreamEnd.EOF),
        ),
    ),
    Case(_A2C, (_IN, _said(Party.AGENT, "agent.shutdown"), _ssh_bye(1))),
    Case(
        _A2C,
        (
            ev.AccessRefused(vantage=Vantage.AGENT, at=1.0, why=AccessRefusal.UNKNOWN_KEY),
            _CLOSED,
        ),
    ),
    Case(
        _A2C,
        (
            ev.HandshakeTimedOut(vantage=Vantage.AGENT, at=9.0, by=Party.CLIENT, after_s=30),
            _CLOSED,
        ),
    ),
    Case(
        _A2C,
        (
            _IN,
            ev.PolicyRefused(
                vantage=Vantage.AGENT, at=1.5, policy=Policy.BLOCK_FILE_TRANSFER, what="scp"
            ),
            _exited(BLOCKED_EXIT_CODE),
            _ssh_bye(0),
        ),
    ),
    Case(_A2C, (_backend(signal="KILL", oom_kills=1),)),
    Case(_A2C, (_backend(signal="TERM"),)),
    Case(_A2C, (_backend(0),)),
    Case(_A2C, (_backend(3),)),
    Case(_A2C, (_backend(oom_kills=None),)),
    Case(_A2C, (_ide_closed(Party.CLIENT),)),
    Case(_A2C, (_ide_closed(Party.AGENT),)),
    Case(_A2C, (_IN, _ssh_bye(1, code=2))),
    Case(
        _A2C,
        (
            _IN,
            ev.TerminalDetached(vantage=Vantage.AGENT, at=2.0, by=Party.CLIENT, open_sessions=0),
            _ssh_bye(0),
        ),
    ),
    Case(
        _A2C,
        (
            _IN,
            ev.SessionEnded(
                vantage=Vantage.AGENT,
                at=2.0,
                exit_signal="HUP",
                open_sessions=0,
                cause="session.killed",
                actor="user:alice",
            ),
            _ssh_bye(0),
        ),
    ),
    Case(_A2C, (_IN, _exited(None, "TERM"), _ssh_bye(0))),
    Case(_A2C, (_IN, _exited(3), _ssh_bye(0))),
    Case(_A2C, (_IN, _ssh_bye(1))),
    Case(_A2C, (_IN, _exited(None, "KILL"), _CLOSED)),
    Case(_A2C, (_IN, _exited(0), _CLOSED)),
    Case(_A2C, (_IN, ev.StdioForwardEnded(vantage=Vantage.AGENT, at=2.0), _CLOSED)),
    Case(_A2C, (_IN, _CLOSED)),
    Case(ConnectType.CLIENT_TO_SERVER, (_said(Party.CLIENT, "client.closed"),)),
    Case(_A2C, (_CLOSED,)),
    Case(_A2C, (_died(Party.AGENT, rebooted=True), _ended(Party.AGENT, StreamEnd.SILENT))),
    Case(_A2C, (_died(Party.AGENT), _ended(Party.AGENT, StreamEnd.EOF))),
    Case(
        _S2A,
        (_died(Party.SERVER), _ended(Party.SERVER, StreamEnd.EOF, Vantage.AGENT)),
    ),
    Case(_A2C, (_IN, _ended(Party.CLIENT, StreamEnd.EOF))),
    Case(_A2C, (_IN, _ended(Party.CLIENT, StreamEnd.SILENT))),
    Case(_S2A, (_ended(Party.AGENT, StreamEnd.RESET, Vantage.SERVER),)),
    Case(
        _S2A,
        (
            _ended(Party.AGENT, StreamEnd.SILENT, Vantage.SERVER),
            ev.TcpCounters(
                vantage=Vantage.SERVER,
                at=3.0,
                peer=Party.AGENT,
                retransmits=0,
                probes=0,
                unacked=0,
                total_retrans=0,
                last_data_recv_ms=46_000,
                last_ack_recv_ms=900,
                pmtu=1500,
                rtt_us=400,
            ),
        ),
    ),
    Case(_S2A, (_ended(Party.AGENT, StreamEnd.SILENT, Vantage.SERVER),)),
    Case(_S2A, (_ended(Party.SERVER, StreamEnd.EOF, Vantage.AGENT),)),
    Case(_S2A, (_ended(Party.SERVER, StreamEnd.SILENT, Vantage.AGENT),)),
    Case(_A2C, (_IN, _ended(Party.RELAY, StreamEnd.EOF, Vantage.AGENT))),
    Case(_A2C, (_IN, _ended(Party.RELAY, StreamEnd.TIMED_OUT, Vantage.AGENT))),
    Case(
        _A2C,
        (
            _IN,
            _died(Party.SERVER),
            ev.NeverReturned(vantage=Vantage.SERVER, at=60.0, party=Party.AGENT, waited_s=15),
        ),
    ),
    Case(
        _A2C,
        (
            _IN,
            ev.NeverReturned(vantage=Vantage.SERVER, at=60.0, party=Party.AGENT, waited_s=15),
        ),
    ),
    Case(_A2C, (ev.ReportMissing(vantage=Vantage.SERVER, at=60.0, party=Party.AGENT),)),
)
"""One case per rule, in the order of the table."""
