"""Facts that many examples are made of.

Law: data only.
"""

from __future__ import annotations

from tether.attribution import evidence as ev
from tether.attribution.vocabulary import ConnectType, Party, StreamEnd, Vantage

A2C, S2A = ConnectType.AGENT_TO_CLIENT, ConnectType.SERVER_TO_AGENT
LOGGED_IN = ev.Authenticated(vantage=Vantage.AGENT, at=0.5, user="alice", method="publickey")
PIPE_CLOSED = ev.LocalSideClosed(vantage=Vantage.CLIENT, at=3.0)


def exited(code: int | None, signal: str | None = None) -> ev.SessionEnded:
    return ev.SessionEnded(
        vantage=Vantage.AGENT, at=2.0, exit_code=code, exit_signal=signal, open_sessions=0
    )


def ssh_bye(open_sessions: int, code: int = 11) -> ev.SshDisconnected:
    return ev.SshDisconnected(
        vantage=Vantage.AGENT, at=3.0, by=Party.CLIENT, code=code, open_sessions=open_sessions
    )


def ended(peer: Party, how: StreamEnd, vantage: Vantage = Vantage.RELAY) -> ev.StreamEnded:
    return ev.StreamEnded(vantage=vantage, at=3.0, peer=peer, how=how)


def died(party: Party, rebooted: bool = False) -> ev.PreviousRunDied:
    return ev.PreviousRunDied(
        vantage=Vantage(str(party)), at=9.0, party=party, host_rebooted=rebooted
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
