"""One case for each row of `rules.session`, in its order.

Law: data only.
"""

from __future__ import annotations

from dataclasses import replace

from tether.attribution import evidence as ev
from tether.attribution.case import Case
from tether.attribution.examples.facts import (
    LOGGED_IN,
    PIPE_CLOSED,
    a2c,
    c2s,
    exited,
    left_at,
    said,
    ssh_bye,
)
from tether.attribution.vocabulary import HandshakeStage, OomVictim, Party, Vantage

EXAMPLES: tuple[Case, ...] = (
    a2c(LOGGED_IN, ssh_bye(1, code=2)),
    a2c(
        LOGGED_IN,
        ev.TerminalDetached(vantage=Vantage.AGENT, at=2.0, by=Party.CLIENT, open_sessions=0),
        ssh_bye(0),
    ),
    a2c(
        LOGGED_IN,
        ev.SessionEnded(
            vantage=Vantage.AGENT,
            at=2.0,
            exit_signal="HUP",
            open_sessions=0,
            cause="session.killed",
            actor="user:alice",
        ),
        ssh_bye(0),
    ),
    a2c(
        LOGGED_IN,
        exited(None, "KILL"),
        ev.OomKills(
            vantage=Vantage.AGENT, at=1.9, party=Party.AGENT, count=1, victim=OomVictim.CHILD
        ),
        ssh_bye(0),
    ),
    a2c(LOGGED_IN, exited(None, "TERM"), ssh_bye(0)),
    a2c(LOGGED_IN, exited(3), ssh_bye(0)),
    a2c(LOGGED_IN, ssh_bye(1)),
    a2c(LOGGED_IN, ssh_bye(0)),
    a2c(LOGGED_IN, exited(None, "KILL"), PIPE_CLOSED),
    a2c(LOGGED_IN, exited(0), PIPE_CLOSED),
    a2c(LOGGED_IN, ev.StdioForwardEnded(vantage=Vantage.AGENT, at=2.0), PIPE_CLOSED),
    a2c(LOGGED_IN, PIPE_CLOSED),
    a2c(left_at(HandshakeStage.HOST_KEY), PIPE_CLOSED),
    a2c(left_at(HandshakeStage.LOGIN), PIPE_CLOSED),
    a2c(
        replace(left_at(HandshakeStage.VERSION), client="OpenSSH-keyscan"),
        ev.NoCommonAlgorithm(
            vantage=Vantage.AGENT,
            at=2.0,
            purpose="host key type",
            theirs="ssh-rsa",
            ours="ssh-ed25519",
        ),
    ),
    c2s(said(Party.CLIENT, "client.closed")),
    a2c(PIPE_CLOSED),
)
